//! TLS servers that do what a test says, connection by connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;

pub struct Server {
    pub port: u16,
    /// TCP connections accepted so far.
    accepted: Arc<AtomicUsize>,
    _accepting: AbortOnDropHandle<()>,
}

impl Server {
    /// Runs `script` for each connection that completes its handshake; it is given the connection's number, from 0.
    pub async fn start<F>(
        tls: Arc<ServerConfig>,
        script: impl Fn(Connection, usize) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (count, script) = (Arc::clone(&accepted), Arc::new(script));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let (tls, script) = (TlsAcceptor::from(Arc::clone(&tls)), Arc::clone(&script));
                tokio::spawn(async move {
                    if let Ok(stream) = tls.accept(stream).await {
                        script(Connection { stream, read: Vec::new() }, number).await;
                    }
                });
            }
        });
        Self { port, accepted, _accepting: AbortOnDropHandle::new(accepting) }
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// The server's side of a connection.
pub struct Connection {
    pub stream: TlsStream<TcpStream>,
    read: Vec<u8>,
}

impl Connection {
    /// The next bytes up to and with `end`; nothing where the connection ends before.
    pub async fn until(&mut self, end: &str) -> Option<String> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end.as_bytes()) {
                let rest = self.read.split_off(at + end.len());
                return Some(String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap());
            }
            if self.stream.read_buf(&mut self.read).await.ok().is_none_or(|read| read == 0) {
                return None;
            }
        }
    }

    pub async fn head(&mut self) -> Option<String> {
        self.until("\r\n\r\n").await
    }

    pub async fn send(&mut self, text: &str) {
        // A gateway that has gone is for the test to notice.
        let _ = self.stream.write_all(text.as_bytes()).await;
        let _ = self.stream.flush().await;
    }

    /// Ends it properly.
    pub async fn close(mut self) {
        let _ = self.stream.shutdown().await;
    }
}
