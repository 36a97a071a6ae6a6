//! The addresses of a name as this plane knows them: what `app` hands the forwarder's dialer.
//!
//! Goes the way of a client's question, through the cache, the questions under way and the CNAME rule, with one
//! difference: it resolves beneath `dns.answer = "forwarder"`, or the forwarder would dial itself.

use std::net::IpAddr;
use std::sync::Arc;

use super::message::Message;
use super::question::Question;
use super::resolver::Resolver;
use super::wire::rcode;
use crate::policy::{Family, HostName, Upstream};

/// Characters of a failure's text at most: upstreams write it.
const MAX_TEXT: usize = 300;

/// Why a name gave no answer at all; a name without an address of this family has one, and it is empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookUpError {
    /// The client's: the name is wrong, or not there yet.
    #[error("the name does not exist")]
    NoSuchName,
    /// The upstreams': silence and refusals too. With what they say of it (RFC 8914), for an operator.
    #[error("the name does not resolve: {0}")]
    Failed(String),
}

impl Resolver {
    /// The addresses of one family that `upstream` knows for a name, in the order of its answer; within four seconds.
    /// An alias that leads into a zone of ours is followed by the policy. Empty: there is none of this family.
    ///
    /// # Errors
    /// The name does not exist, or no answer can be had.
    pub async fn addresses(
        self: &Arc<Self>,
        name: &HostName,
        family: Family,
        upstream: Upstream,
    ) -> Result<Vec<IpAddr>, LookUpError> {
        let message = self.answer(Question::for_addresses(*name, family), upstream).await.answer().message();
        match message.rcode {
            rcode::NOERROR => {
                let of_family = |ip: &IpAddr| ip.is_ipv4() == (family == Family::V4);
                Ok(message.addresses().filter(of_family).collect())
            }
            rcode::NXDOMAIN => Err(LookUpError::NoSuchName),
            _ => Err(LookUpError::Failed(reason(&message))),
        }
    }
}

/// What a failed answer says of itself: the texts of its extended errors, or its code.
fn reason(message: &Message) -> String {
    let errors = message.extended_errors().into_iter().map(|(code, text)| {
        let text: String = String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).collect();
        if text.is_empty() { format!("extended error {code}") } else { text }
    });
    let told = errors.collect::<Vec<_>>().join("; ");
    if told.is_empty() {
        return format!("answered {}", message.failure().unwrap_or("an error"));
    }
    told.chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::reply::put_extended_error;
    use crate::dns::wire::{ExtendedError, option};

    fn servfail(options: Vec<u8>) -> Message {
        Message { rcode: rcode::SERVFAIL, options, ..Message::default() }
    }

    #[test]
    fn a_failure_is_told_in_all_the_words_there_are_and_none_of_them_steers_a_terminal() {
        assert_eq!(reason(&servfail(Vec::new())), "answered SERVFAIL");
        let mut options = option::CLIENT_SUBNET.to_be_bytes().to_vec();
        options.extend([0, 4, 0, 1, 0, 0]);
        put_extended_error(&mut options, ExtendedError::NetworkError, "\x1b[31mrouter\r\nis down");
        put_extended_error(&mut options, ExtendedError::NoReachableAuthority, "");
        assert_eq!(reason(&servfail(options)), "[31mrouteris down; extended error 22");
    }

    #[test]
    fn options_that_end_too_early_are_no_extended_errors() {
        assert_eq!(reason(&servfail(vec![0, 15, 0, 9, 0, 22, b'x'])), "answered SERVFAIL");
        assert_eq!(reason(&servfail(vec![0, 15, 0, 1, 0])), "answered SERVFAIL");
    }
}
