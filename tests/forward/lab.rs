//! A forwarder, a VPC endpoint and a public gateway, all on loopback.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sidegate::demo::certificates::Authority;
use sidegate::forward::{Config, Entrance, Plane, Resolve, ResolveError, Surroundings};
use sidegate::policy::{
    Addresses, Endpoint, EndpointIndex, Family, HostName, Knowledge, Names, Networks, Origin, PrivateIds, Table,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client};

pub const PRIVATE: &str = "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com";
pub const PUBLIC: &str = "f6g7h8i9j0.execute-api.us-east-1.amazonaws.com";
pub const OTHER: &str = "www.example.com";

const ENDPOINT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
pub const INTERNET: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 21);

type Answers = HashMap<&'static str, Result<Vec<IpAddr>, ResolveError>>;

/// The plane under test and what surrounds it.
pub struct Lab {
    pub plane: Plane,
    pub config: Config,
    /// What names resolve to; everything else does not exist.
    pub answers: Arc<Mutex<Answers>>,
    pub table: watch::Sender<Arc<Table>>,
    /// Where the endpoint and the gateway listen.
    pub port: u16,
    authority: Arc<Authority>,
}

impl Lab {
    /// Places that speak TLS and say who they are.
    pub async fn new() -> (Self, Places) {
        Self::with(|_| ()).await
    }

    pub async fn with(change: impl FnOnce(&mut Config)) -> (Self, Places) {
        let (endpoint, gateway, port) = two_listeners().await;
        let authority = Arc::new(Authority::new().unwrap());
        let tls = authority.server_config(&["*.execute-api.us-east-1.amazonaws.com", OTHER]).unwrap();
        let places =
            Places { tasks: [place("the endpoint", endpoint, tls.clone()), place("the internet", gateway, tls)] };
        (Self::around(port, authority, change), places)
    }

    /// Raw places: whoever holds the listeners decides what happens there. The first is the endpoint.
    pub async fn raw(change: impl FnOnce(&mut Config)) -> (Self, TcpListener, TcpListener) {
        let (endpoint, gateway, port) = two_listeners().await;
        (Self::around(port, Arc::new(Authority::new().unwrap()), change), endpoint, gateway)
    }

    fn around(port: u16, authority: Arc<Authority>, change: impl FnOnce(&mut Config)) -> Self {
        let answers: Answers = [(PUBLIC, Ok(vec![INTERNET.into()])), (OTHER, Ok(vec![INTERNET.into()]))].into();
        let answers = Arc::new(Mutex::new(answers));
        let mut config = Config {
            connect_listen: vec![loopback()],
            sni_listen: vec![loopback()],
            http_listen: Vec::new(),
            http_tls: None,
            others: None,
            allow: Vec::new(),
            clients: Networks::private(),
            public_networks: Networks::new(vec![format!("{INTERNET}/32").parse().unwrap()]),
            public_port: port,
            extra_roots: Vec::new(),
            parent_proxy: None,
        };
        change(&mut config);
        let table = watch::Sender::new(Arc::new(table(port, &["a1b2c3d4e5"])));
        let mut plane = Plane::bind(&config, around(&table, &answers)).unwrap();
        plane.serve();
        Self { plane, config, answers, table, port, authority }
    }

    pub fn surroundings(&self) -> Surroundings {
        around(&self.table, &self.answers)
    }

    pub fn address(&self, entrance: Entrance) -> SocketAddr {
        self.plane.addresses().into_iter().find(|(one, _)| *one == entrance).unwrap().1
    }

    pub async fn enter(&self, entrance: Entrance) -> TcpStream {
        TcpStream::connect(self.address(entrance)).await.unwrap()
    }

    pub fn resolve_to(&self, name: &'static str, addresses: &[IpAddr]) {
        self.answers.lock().unwrap().insert(name, Ok(addresses.to_vec()));
    }

    /// Asks for a tunnel; gives the head of the answer.
    pub async fn connect(&self, target: &str) -> (TcpStream, String) {
        let mut stream = self.enter(Entrance::Connect).await;
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        (stream, head)
    }

    /// Shakes hands for `name` over a stream, and asks who is there.
    pub async fn who_is_there<S>(&self, stream: S, name: &'static str) -> std::io::Result<String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut tls = self.shake_hands(stream, name).await?;
        tls.write_all(b"who?\n").await?;
        let mut answer = String::new();
        tls.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    pub async fn shake_hands<S>(&self, stream: S, name: &'static str) -> std::io::Result<client::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let connector = TlsConnector::from(self.authority.client_config().unwrap());
        let shaken = connector.connect(name.try_into().unwrap(), stream);
        timeout(Duration::from_secs(20), shaken).await.expect("a handshake ends")
    }

    /// How often connections ended by this label so far.
    pub fn ended(&self, reason: &str) -> u64 {
        self.plane
            .journal()
            .totals()
            .iter()
            .filter(|((_, label), _)| *label == reason)
            .map(|(_, total)| total.count)
            .sum()
    }

    /// Waits until a connection has ended by this label.
    pub async fn until_ended(&self, reason: &str) {
        let ended = timeout(Duration::from_secs(30), self.until_ended_however_long(reason));
        let totals = || self.plane.journal().totals();
        ended.await.unwrap_or_else(|_| panic!("nothing ended by {reason}: {:?}", totals()));
    }

    pub async fn until_ended_however_long(&self, reason: &str) {
        while self.ended(reason) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Ends with the test.
pub struct Places {
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Places {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn place(says: &'static str, listener: TcpListener, tls: Arc<rustls::ServerConfig>) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = TlsAcceptor::from(tls.clone());
            tokio::spawn(async move {
                let mut tls = acceptor.accept(stream).await?;
                tls.read_u8().await?;
                tls.write_all(says.as_bytes()).await?;
                tls.shutdown().await
            });
        }
    })
}

/// Two listeners on one port of two addresses.
async fn two_listeners() -> (TcpListener, TcpListener, u16) {
    loop {
        let endpoint = TcpListener::bind((ENDPOINT, 0)).await.unwrap();
        let port = endpoint.local_addr().unwrap().port();
        if let Ok(gateway) = TcpListener::bind((INTERNET, port)).await {
            return (endpoint, gateway, port);
        }
    }
}

pub fn table(port: u16, private: &[&str]) -> Table {
    let addresses = Addresses { v4: vec![ENDPOINT], ..Addresses::default() };
    let endpoint = Endpoint { region: "us-east-1".parse().unwrap(), vpce_id: None, addresses, port };
    let private_names = [("orders.corp.example".parse().unwrap(), EndpointIndex(0))].into();
    let names = Names { private_names, learn: true, ..Names::default() };
    let mut ids = PrivateIds::default();
    for id in private {
        ids.add(&id.parse().unwrap(), Knowledge::of(&Origin::Static));
    }
    let mut table = Table::new(vec![endpoint], Arc::new(names), None).unwrap();
    table.ids = Arc::new(ids);
    table
}

fn around(table: &watch::Sender<Arc<Table>>, answers: &Arc<Mutex<Answers>>) -> Surroundings {
    let answers = Arc::clone(answers);
    let resolve: Resolve = Arc::new(move |name: HostName, family, _| {
        let found = answers.lock().unwrap().get(name.to_string().as_str()).cloned();
        let of_family = move |ip: &IpAddr| ip.is_ipv4() == (family == Family::V4);
        let answer = found.unwrap_or(Err(ResolveError::NoSuchName));
        Box::pin(async move { answer.map(|addresses| addresses.into_iter().filter(of_family).collect()) })
    });
    Surroundings { table: table.subscribe(), resolve, on_attempt: Arc::new(|_| ()), other_listeners: Vec::new() }
}

pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// An HTTP head, byte by byte, so that nothing behind it is read.
pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    let read = async {
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
    };
    timeout(Duration::from_secs(30), read).await.expect("an answer comes");
    String::from_utf8(head).unwrap()
}

/// Everything that comes until the stream ends, in whatever way it does.
pub async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = timeout(Duration::from_secs(30), stream.read_to_end(&mut bytes));
    let _ = read.await.expect("the stream ends");
    bytes
}

/// The bytes of a ClientHello that asks for `name`.
pub fn client_hello(name: &'static str) -> Vec<u8> {
    let config = Authority::new().unwrap().client_config().unwrap();
    let mut client = rustls::ClientConnection::new(config, name.try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}
