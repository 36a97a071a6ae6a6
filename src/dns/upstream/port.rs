//! A local port from which a listener asks one server: a few questions, for half a second.
//!
//! Making a socket is most of what a question over UDP costs. So one carries several, each with an id of its own at random.
//! Who forges replies still has to guess the port and the id (RFC 5452 section 9.2), and has half a second to find a port
//! out. The socket is connected, so that the kernel drops what comes from elsewhere and tells what the network says.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::exchange::{OwnSocket, OwnSockets, Protocol, has_edns, is_bare_refusal, is_reply_to};

/// Questions that leave by one port at most.
const MAX_QUESTIONS: u32 = 32;
/// For how long after it was opened questions leave by it.
const IN_USE_FOR: Duration = Duration::from_millis(500);

/// A connected socket and the questions that wait at it.
#[derive(Debug)]
pub struct Port {
    socket: UdpSocket,
    opened: Instant,
    sent: u32,
    waiting: Vec<Waiting>,
    _own: OwnSocket,
}

/// A question that waits for its reply.
#[derive(Debug)]
struct Waiting {
    /// As it was sent.
    query: Vec<u8>,
    /// What whoever asks knows it by.
    number: usize,
}

impl Port {
    /// A new one, which the system chooses at random; while it lives it is listed in `own`.
    ///
    /// # Errors
    /// The system's, where it has no descriptor, no port, or no route to the server.
    pub fn open(server: SocketAddr, own: &OwnSockets, now: Instant) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(server), Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&server.into())?;
        let socket = UdpSocket::from(socket);
        let own = own.add(Protocol::Udp, socket.local_addr()?);
        Ok(Self { socket, opened: now, sent: 0, waiting: Vec::new(), _own: own })
    }

    /// Whether another question may leave by it.
    pub fn takes_more(&self, now: Instant) -> bool {
        self.sent < MAX_QUESTIONS && now.saturating_duration_since(self.opened) < IN_USE_FOR
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends a question under an id that no other one has that waits here.
    ///
    /// # Errors
    /// The system's; it may be about an earlier question.
    pub fn send(&mut self, mut query: Vec<u8>, number: usize) -> io::Result<()> {
        loop {
            query[..2].copy_from_slice(&rand::random::<[u8; 2]>());
            if self.waiting.iter().all(|other| other.query[..2] != query[..2]) {
                break;
            }
        }
        self.socket.send(&query)?;
        self.sent += 1;
        self.waiting.push(Waiting { query, number });
        Ok(())
    }

    /// What has come for one of the questions, its reply or a refusal that does not repeat it: the question's number and the
    /// octets in `buffer`. Whatever else arrives is passed over, `None` says so.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there; else what the network says of the server.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<(usize, usize)>> {
        let length = self.socket.recv(buffer)?;
        let received = &buffer[..length];
        let answers = |Waiting { query, .. }: &Waiting| {
            is_reply_to(query, received) || has_edns(query) && is_bare_refusal(query, received)
        };
        let found = self.waiting.iter().position(answers);
        Ok(found.map(|position| (self.waiting.swap_remove(position).number, length)))
    }

    /// Nobody waits for this one any more.
    pub fn forget(&mut self, number: usize) {
        self.waiting.retain(|waiting| waiting.number != number);
    }

    /// The numbers of those that wait.
    pub fn numbers(&self) -> Vec<usize> {
        self.waiting.iter().map(|waiting| waiting.number).collect()
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::question::Question;

    fn query(name: &str) -> Vec<u8> {
        Question::new(name.parse().unwrap(), 1).to_wire(true)
    }

    fn receive(port: &mut Port, buffer: &mut [u8]) -> Option<(usize, usize)> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match port.receive(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {}
                received => return received.unwrap(),
            }
        }
    }

    #[test]
    fn a_port_carries_few_questions_and_for_half_a_second() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (own, now) = (OwnSockets::default(), Instant::now());
        let mut port = Port::open(server.local_addr().unwrap(), &own, now).unwrap();
        assert!(own.contains(Protocol::Udp, port.socket.local_addr().unwrap()));
        assert!(port.takes_more(now) && !port.takes_more(now + IN_USE_FOR));
        (0..MAX_QUESTIONS).for_each(|number| port.send(query("www.example.com"), number as usize).unwrap());
        assert!(!port.takes_more(now));
        let mut ids: Vec<_> = port.waiting.iter().map(|waiting| waiting.query[..2].to_vec()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), MAX_QUESTIONS as usize, "no two have one id");
        let address = port.socket.local_addr().unwrap();
        drop(port);
        assert!(!own.contains(Protocol::Udp, address));
    }

    #[test]
    fn each_reply_finds_its_question_and_what_is_none_finds_nothing() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut port = Port::open(server.local_addr().unwrap(), &OwnSockets::default(), Instant::now()).unwrap();
        let mut buffer = [0; 512];
        let asked: Vec<(Vec<u8>, SocketAddr)> = ["a.example.com", "b.example.com"]
            .iter()
            .enumerate()
            .map(|(number, name)| {
                port.send(query(name), number).unwrap();
                let (length, from) = server.recv_from(&mut buffer).unwrap();
                (buffer[..length].to_vec(), from)
            })
            .collect();
        let say = |number: usize, change: &dyn Fn(&mut Vec<u8>)| {
            let (mut reply, to) = asked[number].clone();
            reply[2] |= 0x80;
            change(&mut reply);
            server.send_to(&reply, to).unwrap();
        };
        say(0, &|reply| reply[1] ^= 1);
        assert_eq!(receive(&mut port, &mut buffer), None, "another id");
        say(1, &|reply| reply[13] ^= 1);
        assert_eq!(receive(&mut port, &mut buffer), None, "another name");
        say(1, &|_| {});
        assert_eq!(receive(&mut port, &mut buffer).map(|(number, _)| number), Some(1));
        say(1, &|_| {});
        assert_eq!(receive(&mut port, &mut buffer), None, "it was answered already");
        say(0, &|reply| {
            reply.truncate(12);
            (reply[3], reply[5], reply[11]) = (1, 0, 0);
        });
        assert_eq!(receive(&mut port, &mut buffer), Some((0, 12)), "a refusal without the question");
        assert!(port.is_idle());
    }

    #[test]
    fn what_the_network_says_of_the_server_is_heard() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut port = Port::open(server.local_addr().unwrap(), &OwnSockets::default(), Instant::now()).unwrap();
        drop(server);
        port.send(query("www.example.com"), 7).unwrap();
        let error = port.receive(&mut [0; 512]).unwrap_err();
        assert_eq!((error.kind(), port.numbers()), (io::ErrorKind::ConnectionRefused, vec![7]));
        port.forget(7);
        assert!(port.is_idle());
    }
}
