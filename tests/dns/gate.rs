//! A DNS plane on loopback as a test wants it, and clients that ask it.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::Message;
use sidegate::dns::upstream::Server;
use sidegate::dns::{Config, Encrypted, Observer, Plane, PlaneError, Upstreams, ZoneAnswer};
use sidegate::policy::{
    Addresses, Endpoint, EndpointIndex, Knowledge, Names, Networks, Origin, PrivateIds, Table, Upstream as Group,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::wire::{Ask, read};

/// Longer than anything here takes, even on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const ZONE: &str = "execute-api.us-east-1.amazonaws.com";

/// One endpoint with the address 10.0.0.1 and one private id, `priv1`.
pub fn table(default_upstream: Group) -> Table {
    let addresses = Addresses { v4: vec![[10, 0, 0, 1].into()], ..Addresses::default() };
    let endpoint = Endpoint { region: "us-east-1".parse().unwrap(), vpce_id: None, addresses, port: 443 };
    let names = Names {
        default_upstream,
        forward_zones: [("corp.internal".parse().unwrap(), 0)].into(),
        private_names: [("orders.corp.example".parse().unwrap(), EndpointIndex(0))].into(),
        ..Names::default()
    };
    let mut table = Table::new(vec![endpoint], Arc::new(names), None).unwrap();
    with_ids(&mut table, &["priv1"]);
    table
}

/// Makes these the ids that are known to be private.
pub fn with_ids(table: &mut Table, known: &[&str]) {
    let mut ids = PrivateIds::default();
    for id in known {
        ids.add(&id.parse().unwrap(), Knowledge::of(&Origin::Static));
    }
    table.ids = Arc::new(ids);
}

pub fn config(listen: &[SocketAddr], upstreams: Upstreams) -> Config {
    Config {
        listen: listen.to_vec(),
        encrypted: Encrypted::default(),
        whole_vpc: false,
        workers: NonZeroUsize::MIN,
        clients: Networks::private(),
        upstreams,
        answer: ZoneAnswer::Endpoint,
        egress_proxy: None,
        extra_roots: Vec::new(),
    }
}

pub fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// Servers of the public group.
pub fn public(servers: &[SocketAddr]) -> Upstreams {
    Upstreams { public: servers.iter().copied().map(Server::udp).collect(), ..Upstreams::default() }
}

/// A plane at work.
pub struct Gate {
    pub plane: Plane,
    pub table: Arc<watch::Sender<Arc<Table>>>,
    pub address: SocketAddr,
}

impl Gate {
    /// On 127.0.0.1, with everything going to these public servers.
    pub fn start(servers: &[SocketAddr]) -> Self {
        Self::with(config(&[loopback()], public(servers)), table(Group::Public))
    }

    pub fn with(config: Config, table: Table) -> Self {
        Self::try_with(config, table).unwrap()
    }

    pub fn try_with(config: Config, table: Table) -> Result<Self, PlaneError> {
        Self::observed(config, Arc::new(watch::Sender::new(Arc::new(table))), None)
    }

    pub fn observed(
        config: Config,
        table: Arc<watch::Sender<Arc<Table>>>,
        observer: Option<Observer>,
    ) -> Result<Self, PlaneError> {
        let mut plane = Plane::bind(config, table.subscribe(), observer)?;
        plane.serve()?;
        let address = plane.addresses().first().copied().unwrap_or_else(loopback);
        Ok(Self { plane, table, address })
    }

    /// Changes to another configuration with the table as it is.
    pub async fn reload(&mut self, config: Config) -> Result<(), PlaneError> {
        let tls = self.plane.tls(&config).await?;
        self.plane.reload(config, tls, self.table.subscribe(), None)
    }

    /// Publishes a changed table under the next generation.
    pub fn change_table(&self, change: impl FnOnce(&mut Table)) {
        self.table.send_modify(|table| {
            let mut next = Table::clone(table);
            change(&mut next);
            next.generation += 1;
            *table = Arc::new(next);
        });
    }

    /// Asks over UDP; the reply as bytes.
    pub async fn udp(&self, query: &[u8]) -> Vec<u8> {
        ask_udp(self.address, query).await
    }

    /// Asks over UDP.
    pub async fn ask(&self, ask: &Ask) -> Message {
        read(&self.udp(&ask.to_wire()).await)
    }

    /// Asks over a TCP connection of its own.
    pub async fn ask_tcp(&self, ask: &Ask) -> Message {
        let mut client = TcpClient::connect(self.address).await;
        client.send(&ask.to_wire()).await;
        read(&client.receive().await.expect("an answer"))
    }
}

/// Asks from a socket of its own, and takes only what comes from the address that was asked.
pub async fn ask_udp(server: SocketAddr, query: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind(SocketAddr::new(any_of(server), 0)).await.unwrap();
    socket.connect(server).await.unwrap();
    socket.send(query).await.unwrap();
    let mut buffer = vec![0; 65_536];
    let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("an answer in time").unwrap();
    buffer.truncate(length);
    buffer
}

fn any_of(server: SocketAddr) -> IpAddr {
    if server.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() }
}

/// A DNS client on one TCP connection.
pub struct TcpClient(pub TcpStream);

impl TcpClient {
    pub async fn connect(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    pub async fn send(&mut self, query: &[u8]) {
        self.0.write_all(&frame(query)).await.unwrap();
    }

    /// The next reply; `None` where the server has closed the connection.
    pub async fn receive(&mut self) -> Option<Vec<u8>> {
        let length = timeout(PATIENCE, self.0.read_u16()).await.expect("an answer in time").ok()?;
        let mut reply = vec![0; length.into()];
        timeout(PATIENCE, self.0.read_exact(&mut reply)).await.expect("the whole answer in time").unwrap();
        Some(reply)
    }
}

/// A message with its length in front.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = (message.len() as u16).to_be_bytes().to_vec();
    frame.extend(message);
    frame
}

/// Waits until something is so.
pub async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "waited in vain until {what}");
}
