//! A scripted upstream server: a closure says what happens upon each query it is sent, over UDP or TCP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

/// What a server does, in order. No action at all is silence.
#[derive(Debug, Clone)]
pub enum Action {
    Reply(Vec<u8>),
    /// Over UDP, from another socket.
    ReplyFromElsewhere(Vec<u8>),
    Wait(Duration),
    /// Over TCP: closes the connection.
    Close,
}

/// A query as it came in.
#[derive(Debug, Clone)]
pub struct Asked {
    pub query: Vec<u8>,
    pub tcp: bool,
    pub from: SocketAddr,
    /// How many came before it.
    pub position: usize,
}

type Script = Arc<dyn Fn(&Asked) -> Vec<Action> + Send + Sync>;

/// A server on loopback, UDP and TCP on one port, until it is dropped.
pub struct Upstream {
    pub address: SocketAddr,
    log: Arc<Mutex<Vec<Asked>>>,
    tasks: Vec<AbortHandle>,
}

impl Upstream {
    pub async fn start(script: impl Fn(&Asked) -> Vec<Action> + Send + Sync + 'static) -> Self {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = tcp.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let server = Server { script: Arc::new(script), log: Arc::clone(&log) };
        let tasks = vec![
            tokio::spawn(server.clone().serve_udp(Arc::new(udp))).abort_handle(),
            tokio::spawn(server.serve_tcp(tcp)).abort_handle(),
        ];
        Self { address, log, tasks }
    }

    /// A server that answers every query with one reply.
    pub async fn answering(reply: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start(move |asked| vec![Action::Reply(reply(&asked.query))]).await
    }

    /// A server that never says a word.
    pub async fn silent() -> Self {
        Self::start(|_| Vec::new()).await
    }

    /// Every query so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.log.lock().unwrap().len()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// An address at which nobody listens, and that nobody else can have meanwhile.
pub struct Closed {
    pub address: SocketAddr,
    _tcp: TcpSocket,
    _udp: UdpSocket,
}

impl Closed {
    pub async fn reserve() -> Self {
        loop {
            // A TCP socket that does not listen and a UDP socket that is another's refuse whoever comes.
            let tcp = TcpSocket::new_v4().unwrap();
            tcp.bind(([127, 0, 0, 1], 0).into()).unwrap();
            let address = tcp.local_addr().unwrap();
            if let Ok(udp) = UdpSocket::bind(address).await {
                udp.connect("127.0.0.1:1").await.unwrap();
                return Self { address, _tcp: tcp, _udp: udp };
            }
        }
    }
}

#[derive(Clone)]
struct Server {
    script: Script,
    log: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    fn actions(&self, query: &[u8], tcp: bool, from: SocketAddr) -> Vec<Action> {
        let asked = {
            let mut log = self.log.lock().unwrap();
            let asked = Asked { query: query.to_vec(), tcp, from, position: log.len() };
            log.push(asked.clone());
            asked
        };
        (self.script)(&asked)
    }

    async fn serve_udp(self, socket: Arc<UdpSocket>) {
        // Ends what is under way together with the server.
        let mut replies = JoinSet::new();
        let mut buffer = vec![0; 65_536];
        loop {
            // An error here is about an earlier reply: its client has gone.
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
            let actions = self.actions(&buffer[..length], false, from);
            let socket = Arc::clone(&socket);
            replies.spawn(async move {
                for action in actions {
                    match action {
                        Action::Reply(reply) => drop(socket.send_to(&reply, from).await),
                        Action::ReplyFromElsewhere(reply) => {
                            let elsewhere = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                            drop(elsewhere.send_to(&reply, from).await);
                        }
                        Action::Wait(duration) => sleep(duration).await,
                        Action::Close => {}
                    }
                }
            });
            while replies.try_join_next().is_some() {}
        }
    }

    async fn serve_tcp(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let Ok((stream, from)) = listener.accept().await else { continue };
            connections.spawn(self.clone().serve_connection(stream, from));
        }
    }

    async fn serve_connection(self, stream: TcpStream, from: SocketAddr) {
        let (mut read, write) = stream.into_split();
        let write = Arc::new(tokio::sync::Mutex::new(Some(write)));
        let mut replies = JoinSet::new();
        while let Ok(length) = read.read_u16().await {
            let mut query = vec![0; length.into()];
            if read.read_exact(&mut query).await.is_err() {
                return;
            }
            let actions = self.actions(&query, true, from);
            let write = Arc::clone(&write);
            replies.spawn(async move {
                for action in actions {
                    match action {
                        Action::Reply(reply) | Action::ReplyFromElsewhere(reply) => {
                            let mut frame = (reply.len() as u16).to_be_bytes().to_vec();
                            frame.extend(reply);
                            if let Some(write) = &mut *write.lock().await {
                                drop(write.write_all(&frame).await);
                            }
                        }
                        Action::Wait(duration) => sleep(duration).await,
                        Action::Close => *write.lock().await = None,
                    }
                }
            });
        }
        // The client writes no more; what it is owed is still sent.
        while replies.join_next().await.is_some() {}
    }
}
