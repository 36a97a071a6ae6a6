//! At the bounds of a listener, which are too wide for a test of the whole plane.

use std::net::{Ipv4Addr, SocketAddr};

use h2::client::{SendRequest, handshake};
use h2::{RecvStream, SendStream};
use hyper::{Method, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::forward::access::Journal;
use crate::forward::dial::Dialer;
use crate::forward::router::Router;
use crate::forward::service::{AtBounds, Drain, Listening, Service};
use crate::forward::{AddressRules, Destinations, Others};
use crate::policy::{Names, Networks, Table};
use crate::tcp_listener::{Bounds, Connections};

/// Listens where every name leads.
async fn service() -> (watch::Receiver<Arc<Service>>, TcpListener) {
    let place = Ipv4Addr::new(127, 0, 0, 23);
    let listener = TcpListener::bind((place, 0)).await.unwrap();
    let table = Table::new(Vec::new(), Arc::new(Names::default()), None).unwrap();
    let public_networks = Networks::new(vec![format!("{place}/32").parse().unwrap()]);
    let addresses = AddressRules { public_networks, own_listeners: Vec::new() };
    let resolve: crate::forward::Resolve = Arc::new(move |_, _, _| Box::pin(async move { Ok(vec![place.into()]) }));
    let port = listener.local_addr().unwrap().port();
    let service = Service {
        router: Router {
            table: watch::channel(Arc::new(table)).1,
            destinations: Destinations { allow: Vec::new(), others: Others::Direct },
            dialer: Dialer::new(resolve, Arc::new(|_| ()), addresses, port, None),
        },
        clients: Networks::private(),
        journal: Arc::new(Journal::default()),
        http: None,
    };
    (watch::channel(Arc::new(service)).1, listener)
}

struct Tunnel {
    from: RecvStream,
    to: SendStream<Bytes>,
    far: TcpStream,
}

impl Tunnel {
    async fn open(client: &mut SendRequest<Bytes>, listener: &TcpListener) -> Self {
        let request = Request::builder().method(Method::CONNECT).uri("www.example.com:443").body(()).unwrap();
        let (response, to) = client.clone().ready().await.unwrap().send_request(request, false).unwrap();
        let (far, _) = listener.accept().await.unwrap();
        Self { from: response.await.unwrap().into_body(), to, far }
    }

    async fn say(&mut self, byte: u8) {
        self.to.send_data(vec![byte].into(), false).unwrap();
        assert_eq!(self.far.read_u8().await.unwrap(), byte);
        self.far.write_u8(byte).await.unwrap();
        assert_eq!(self.from.data().await.unwrap().unwrap(), [byte][..]);
    }
}

#[tokio::test]
async fn a_tunnel_counts_as_a_connection_and_the_one_still_for_longest_is_reset_for_another() {
    let (service, listener) = service().await;
    let entrance = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, near) = tokio::join!(TcpStream::connect(entrance.local_addr().unwrap()), entrance.accept());
    let (near, address): (TcpStream, SocketAddr) = near.unwrap();
    // The connection and three tunnels in it.
    let all = Connections::new(Bounds { total: 100, per_client: 4 });
    let now = Instant::now();
    let (place, _) = all.admit(Some(address.ip()), now.into_std(), CancellationToken::new());
    let bounds = Arc::new(AtBounds::default());
    let (bounds_too, drain) = (Arc::clone(&bounds), Drain::default());
    let listening = Arc::new(Listening { service, address, bounds: bounds_too, drain });
    let connection = Connection { client: address, place, listening };
    let served = tokio::spawn(serve(near, Bytes::new(), connection, now + Duration::from_secs(60)));
    let (mut client, connection) = handshake(client.unwrap()).await.unwrap();
    let connection = tokio::spawn(connection);

    let mut tunnels = Vec::new();
    for byte in 0..3 {
        let mut tunnel = Tunnel::open(&mut client, &listener).await;
        tunnel.say(byte).await;
        tunnels.push(tunnel);
    }
    // The oldest is in use, the second is not.
    tunnels[0].say(10).await;
    tunnels[2].say(12).await;
    let mut newest = Tunnel::open(&mut client, &listener).await;
    newest.say(13).await;
    let error = tunnels[1].from.data().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::CONNECT_ERROR));
    assert!(tunnels[1].far.read_u8().await.is_err());
    tunnels[0].say(20).await;
    tunnels[2].say(22).await;
    assert_eq!((all.open(), bounds.evicted.load(std::sync::atomic::Ordering::Relaxed)), (4, 1));

    drop((tunnels, newest, client));
    connection.abort();
    served.await.unwrap();
    let gone = async {
        while all.open() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), gone).await.expect("all places are given back");
}
