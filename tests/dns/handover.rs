//! Sockets that systemd hands over: what waits in their queues when a listener ends is the next process's.

use std::net::{TcpListener, TcpStream, UdpSocket};

use sidegate::dns::Plane;
use sidegate::inherited::Inherited;
use sidegate::policy::Upstream as Group;
use tokio::sync::watch;

use crate::gate::{PATIENCE, ZONE, config, loopback, public, table};
use crate::wire::{A, Ask};

/// Datagrams that wait when a listener begins, fewer than its receive buffer holds by default.
const WAITING: usize = 200;
/// A worker may be so quick that it has read all of them before it hears that it has to end.
const ROUNDS: usize = 100;

fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let tcp = TcpListener::bind(loopback()).unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

/// A plane on these sockets, ended before it can have dealt with all that waits. How much it has left.
async fn left_by_a_plane_on(udp: &UdpSocket, tcp: &TcpListener) -> (usize, usize) {
    let address = tcp.local_addr().unwrap();
    let sockets =
        vec![("udp".to_owned(), udp.try_clone().unwrap().into()), ("tcp".to_owned(), tcp.try_clone().unwrap().into())];
    let table = watch::Sender::new(std::sync::Arc::new(table(Group::Public)));
    let inherited = Inherited::of(sockets).unwrap();
    let mut plane = Plane::bind_with(config(&[address], public(&[])), table.subscribe(), None, inherited).unwrap();
    let (client, query) = (UdpSocket::bind(loopback()).unwrap(), Ask::new(&format!("priv1.{ZONE}"), A).to_wire());
    for _ in 0..WAITING {
        client.send_to(&query, address).unwrap();
    }
    let _waiting: Vec<TcpStream> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
    plane.serve().unwrap();
    assert!(plane.drain(PATIENCE).await);
    udp.set_nonblocking(true).unwrap();
    tcp.set_nonblocking(true).unwrap();
    let datagrams = std::iter::from_fn(|| udp.recv(&mut [0; 512]).ok()).count();
    (datagrams, std::iter::from_fn(|| tcp.accept().ok()).count())
}

#[tokio::test]
async fn what_waits_in_the_queues_of_sockets_that_are_not_ours_is_left_there() {
    let is_left = async {
        for _ in 0..ROUNDS {
            let (udp, tcp) = sockets();
            let (datagrams, connections) = left_by_a_plane_on(&udp, &tcp).await;
            assert_eq!(connections, 10);
            if datagrams > 0 {
                return true;
            }
        }
        false
    };
    assert!(is_left.await, "{ROUNDS} listeners have all emptied the queue before they ended");
}
