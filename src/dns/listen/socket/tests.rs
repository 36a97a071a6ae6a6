//! Datagrams over real sockets of loopback.

use super::*;

fn receive(socket: &Socket, batch: &mut Batch) -> usize {
    for _ in 0..1000 {
        match socket.receive(batch) {
            Ok(count) => return count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("nothing arrived")
}

#[test]
fn replies_leave_from_the_address_that_was_asked() {
    for (bound, asked) in [("0.0.0.0:0", "127.0.0.9"), ("[::]:0", "::1"), ("127.0.0.1:0", "127.0.0.1")] {
        let socket = Socket::new(UdpSocket::bind(bound).unwrap()).unwrap();
        let asked = SocketAddr::new(asked.parse().unwrap(), socket.socket.local_addr().unwrap().port());
        let client = UdpSocket::bind(SocketAddr::new(asked.ip(), 0)).unwrap();
        client.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let mut batch = Batch::new();
        let mut replies = Replies::new();
        for round in 0..2u8 {
            client.send_to(&[round, 1], asked).unwrap();
            assert_eq!(receive(&socket, &mut batch), 1);
            let (query, from, local) = batch.datagram(0);
            assert_eq!((query, from), (&[round, 1][..], client.local_addr().unwrap()));
            replies.add(&socket, from, local, |reply| reply.extend([round, 2]));
            replies.add(&socket, from, local, |_| {});
            replies.send(&socket);
            let mut buffer = [0; 16];
            let (length, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from), (&[round, 2][..], asked));
        }
    }
}

#[test]
fn replies_beyond_what_one_call_takes_are_sent_too() {
    let socket = Socket::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    let mut replies = Replies::new();
    for number in 0..=BATCH as u8 {
        replies.add(&socket, client.local_addr().unwrap(), None, |reply| reply.push(number));
    }
    replies.send(&socket);
    for number in 0..=BATCH as u8 {
        let mut buffer = [0; 2];
        assert_eq!((client.recv(&mut buffer).unwrap(), buffer[0]), (1, number));
    }
}

#[test]
fn a_datagram_longer_than_any_query_arrives_empty() {
    let socket = Socket::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(&[7; 65_507], socket.socket.local_addr().unwrap()).unwrap();
    let mut batch = Batch::new();
    assert_eq!(receive(&socket, &mut batch), 1);
    assert!(batch.datagram(0).0.is_empty());
}
