//! A stub resolver: one question to one server, its answer followed to the addresses.
//!
//! `client` resolves with it; tests ask their own questions with it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::ProtoError;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::ClientError;

/// Patience for one DNS answer over UDP. A resolver may take about 4 s where an upstream is silent.
const DNS_PATIENCE: Duration = Duration::from_secs(5);
/// UDP packets read while waiting for the one that answers.
const MAX_STRAYS: usize = 16;

/// The IPv4 addresses of `name` as `resolver` gives them, in its order, aliases followed within the answer.
///
/// # Errors
/// No answer, an answer that is an error, or one without an address.
pub async fn resolve(resolver: SocketAddr, name: &str) -> Result<Vec<IpAddr>, ClientError> {
    let mut name = Name::from_ascii(name)?;
    name.set_fqdn(true);
    let answer = ask(resolver, &name, RecordType::A).await?;
    match answer.metadata.response_code {
        ResponseCode::NoError => addresses(&answer, name),
        ResponseCode::NXDomain => Err(ClientError::NoSuchName),
        code => Err(ClientError::Code(code)),
    }
}

/// Asks one question, recursion desired, without EDNS.
///
/// # Errors
/// No answer in time, or one that is no DNS message.
pub async fn ask(resolver: SocketAddr, name: &Name, kind: RecordType) -> Result<Message, ClientError> {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), kind));
    exchange(resolver, &question).await
}

/// Sends a message over UDP, and again over TCP if the answer did not fit.
///
/// # Errors
/// No answer in time, or one that is no DNS message.
pub async fn exchange(resolver: SocketAddr, question: &Message) -> Result<Message, ClientError> {
    let bytes = question.to_vec()?;
    let silent = |_| Err(io::ErrorKind::TimedOut.into());
    let over_udp = timeout(DNS_PATIENCE, ask_udp(resolver, &bytes)).await.unwrap_or_else(silent);
    let answer = Message::from_vec(&over_udp.map_err(ClientError::NoAnswer)?).map_err(ProtoError::from)?;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    let over_tcp = timeout(DNS_PATIENCE, ask_tcp(resolver, &bytes)).await.unwrap_or_else(silent);
    Ok(Message::from_vec(&over_tcp.map_err(ClientError::NoAnswer)?).map_err(ProtoError::from)?)
}

async fn ask_udp(resolver: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = if resolver.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Connected, so that a closed port is an error at once and nobody else's packet gets in.
    socket.connect(resolver).await?;
    socket.send(question).await?;
    let mut buffer = [0; 4096];
    for _ in 0..MAX_STRAYS {
        let length = socket.recv(&mut buffer).await?;
        if buffer[..length].get(..2) == question.get(..2) {
            return Ok(buffer[..length].to_vec());
        }
    }
    Err(io::Error::other("only answers to other questions came"))
}

async fn ask_tcp(resolver: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Follows the aliases from `name` through the answer section, and collects the addresses at their end.
fn addresses(answer: &Message, mut name: Name) -> Result<Vec<IpAddr>, ClientError> {
    // Every record is an alias at most once, so this many steps end every chain, and every circle too.
    for _ in 0..=answer.answers.len() {
        let own = || answer.answers.iter().filter(|record| record.name == name);
        let found: Vec<IpAddr> = own().filter_map(|record| record.data.ip_addr()).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let alias = own().find_map(|record| match &record.data {
            RData::CNAME(CNAME(target)) => Some(target.clone()),
            _ => None,
        });
        match alias {
            Some(target) => name = target,
            None => break,
        }
    }
    Err(ClientError::NoAddress)
}
