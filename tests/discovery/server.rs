//! An HTTP server on loopback, over TLS where asked, that answers as a test says and remembers what it was asked; and a
//! name server.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

/// What a server was asked.
pub type Asked = Request<Bytes>;

/// What it does about it.
pub enum Answer {
    Whole(Response<Bytes>),
    /// A body of this length, of which only this is sent.
    Half(usize, &'static str),
    /// The end of the connection.
    Nothing,
}

type Answering = Arc<dyn Fn(&Asked, usize) -> Answer + Send + Sync>;

/// Serves for as long as it lives.
pub struct Server {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _runtime: Runtime,
}

impl Server {
    /// `answer` is told how many requests came before.
    pub fn start(answer: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::build(None, Arc::new(answer))
    }

    pub fn with_tls(tls: TlsAcceptor, answer: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::build(Some(tls), Arc::new(answer))
    }

    fn build(tls: Option<TlsAcceptor>, answer: Answering) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let remembered = Arc::clone(&asked);
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, answer, asked) = (tls.clone(), Arc::clone(&answer), Arc::clone(&remembered));
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, answer, asked).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, answer, asked).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, asked, _runtime: runtime }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// One request a connection, as our client has it.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    answer: Answering,
    asked: Arc<Mutex<Vec<Asked>>>,
) {
    let half = Mutex::new(None);
    let service = service_fn(|request: Request<Incoming>| async {
        let (head, body) = request.into_parts();
        let request = Request::from_parts(head, body.collect().await.unwrap().to_bytes());
        let before = asked.lock().unwrap().len();
        asked.lock().unwrap().push(request.clone());
        match answer(&request, before) {
            Answer::Whole(response) => Ok(response.map(Full::new)),
            Answer::Half(length, part) => {
                *half.lock().unwrap() = Some(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{part}"));
                Err("half")
            }
            Answer::Nothing => Err("nothing"),
        }
    });
    // An error of the service ends the connection without an answer.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(&mut stream), service).await;
    let half = half.lock().unwrap().take();
    if let Some(half) = half {
        let _ = stream.write_all(half.as_bytes()).await;
    }
    let _ = stream.shutdown().await;
}

/// An answer without further headers.
pub fn answer(status: u16, body: impl Into<String>) -> Answer {
    let mut response = Response::new(Bytes::from(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    Answer::Whole(response)
}

/// One header of what was asked, empty if there is none.
pub fn header<'a>(asked: &'a Asked, name: &str) -> &'a str {
    asked.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// A name server that knows one address for every name.
pub fn name_server() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        loop {
            let (length, client) = socket.recv_from(&mut query).unwrap();
            let question_ends = 12 + query[12..length].iter().position(|octet| *octet == 0).unwrap() + 5;
            let asks_for_a = query[question_ends - 3] == 1;
            let mut reply = query[..question_ends].to_vec();
            // A response, recursion available, one question, and an answer to A alone.
            reply[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(asks_for_a), 0, 0, 0, 0]);
            if asks_for_a {
                reply.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            socket.send_to(&reply, client).unwrap();
        }
    });
    address.to_string()
}
