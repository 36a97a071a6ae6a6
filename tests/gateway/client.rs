//! A client that sends the bytes it is told to, and reads what comes.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

pub struct Client<S = TcpStream> {
    pub stream: S,
    read: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn over(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    pub async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// The next bytes up to and with `end`.
    pub async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end.as_bytes()) {
                let rest = self.read.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap();
            }
            let read = self.stream.read_buf(&mut self.read).await.unwrap();
            assert_ne!(read, 0, "it ended after {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    pub async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// All that comes until the connection ends; whether it ended in order.
    pub async fn rest(mut self) -> (String, bool) {
        let ended = self.stream.read_to_end(&mut self.read).await.is_ok();
        (String::from_utf8(self.read).unwrap(), ended)
    }
}

/// Sends one request and reads all until the connection ends.
pub async fn ask(address: SocketAddr, request: &str) -> String {
    let mut client = Client::connect(address).await;
    client.send(request).await;
    client.rest().await.0
}
