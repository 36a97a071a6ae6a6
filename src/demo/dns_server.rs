//! A resolver on loopback that answers from [`Zones`], over UDP and TCP on one port.
//!
//! `world` runs two, the VPC resolver and the public DNS: the same handler with different data. Integration tests run
//! more as upstreams.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Metadata, OpCode, ResponseCode};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use tokio::net::{TcpListener, UdpSocket};

use super::sockets;
use super::zones::{Answer, Zones};

/// A TCP connection without a question for this long is closed. The library has no cap on their number; this bounds how
/// long they last.
const TCP_IDLE: Duration = Duration::from_secs(5);
/// Answers waiting on one TCP connection; the client does not read faster by our keeping more.
const TCP_BACKLOG: usize = 16;
/// The UDP size that the VPC resolver offers.
const OFFERED_PAYLOAD: u16 = 4096;

/// A running resolver. Dropping it ends its tasks and frees its port.
pub struct DnsServer {
    address: SocketAddr,
    _server: Server<Handler>,
}

impl DnsServer {
    /// Binds UDP and TCP on one port of `ip` that the OS chooses, and answers from `zones`.
    ///
    /// # Errors
    /// No port could be bound on `ip`.
    pub async fn start(ip: IpAddr, zones: Zones) -> io::Result<Self> {
        Self::serve(sockets::udp_and_tcp(ip).await?, zones)
    }

    /// Binds UDP and TCP on this address, for a server that has to have the port of another.
    ///
    /// # Errors
    /// The address could not be bound.
    pub async fn start_at(address: SocketAddr, zones: Zones) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        Self::serve((UdpSocket::bind(tcp.local_addr()?).await?, tcp), zones)
    }

    fn serve((udp, tcp): (UdpSocket, TcpListener), zones: Zones) -> io::Result<Self> {
        let address = udp.local_addr()?;
        let mut server = Server::new(Handler { zones });
        server.register_socket(udp);
        server.register_listener(tcp, TCP_IDLE, TCP_BACKLOG);
        Ok(Self { address, _server: server })
    }

    /// Where it listens, UDP and TCP alike.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl fmt::Debug for DnsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsServer").field("address", &self.address).finish_non_exhaustive()
    }
}

struct Handler {
    zones: Zones,
}

impl Handler {
    fn answer(&self, request: &Request) -> Answer {
        let refuse = |code| Answer { code, answers: Vec::new(), soa: None };
        if request.metadata.op_code != OpCode::Query {
            return refuse(ResponseCode::NotImp);
        }
        if request.version() > 0 {
            return refuse(ResponseCode::BADVERS);
        }
        match request.queries.queries() {
            [query] => self.zones.answer(query.original().name(), query.query_type()),
            _ => refuse(ResponseCode::FormErr),
        }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut reply: R) -> ResponseInfo {
        let Answer { code, answers, soa } = self.answer(request);
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = true;
        metadata.response_code = code;
        let edns = request.edns.as_ref().map(|offered| {
            let mut edns = Edns::new();
            // The library cuts a UDP reply at the size found here, so this has to be the smaller of both offers.
            edns.set_max_payload(request.max_payload().min(OFFERED_PAYLOAD));
            edns.set_dnssec_ok(offered.flags().dnssec_ok);
            edns
        });
        let mut response = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &edns {
            response.edns(edns);
        }
        let sent = reply.send_response(response.build(metadata, &answers, [], soa.as_ref(), [])).await;
        sent.unwrap_or_else(|error| {
            // The client is gone or its connection is; it will ask again. The value is for statistics only.
            tracing::debug!(%error, "an answer could not be sent");
            ResponseInfo::from(hickory_proto::op::Header { metadata, counts: Default::default() })
        })
    }
}
