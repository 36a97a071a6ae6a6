//! An upstream's reply becomes an answer of ours: what does not belong is dropped, who learns is told, the answer is kept.
//!
//! `resolver` calls it for what it asks itself; listeners, by [`Resolver::take_in`], for what they have asked.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::{Existence, FAILURE_LIFETIME, Resolver};
use crate::dns::answer::Answer;
use crate::dns::cache::Validity;
use crate::dns::chain::{self, Cut};
use crate::dns::message::Message;
use crate::dns::question::{CacheKey, Question};
use crate::dns::relevance::keep_relevant;
use crate::dns::upstream::AskError;
use crate::dns::wire::{ExtendedError, rcode};
use crate::policy::{HostName, Table, Upstream, route};

/// Seconds a negative answer for a name of API Gateway is kept at most: new APIs appear (T21).
const ZONE_NEGATIVE_CAP: u32 = 60;

/// A reply without what does not belong.
pub(super) struct Examined {
    pub message: Message,
    /// By which it was examined.
    pub table: Arc<Table>,
    /// Where the CNAME rule cuts it; the message is still whole.
    pub cut: Option<Cut>,
    /// Whether names other than the one asked for have a part in it.
    mentions_others: bool,
}

impl Resolver {
    pub(super) fn examine(&self, mut message: Message, question: &Question, upstream: Upstream) -> Examined {
        let name = question.name.wire();
        keep_relevant(&mut message, name);
        if upstream == Upstream::Public {
            self.observe(&message, question);
        }
        let table = self.table();
        chain::drop_strays(&mut message, &table, upstream);
        let cut = chain::cut(&message, question, &table, upstream);
        let mentions_others = cut.is_some() || message.chain(name).len() > 1 || !message.additional.is_empty();
        Examined { message, table, cut, mentions_others }
    }

    /// As [`Resolver::take_in`], of a reply in octets. That it answers this very question is for the caller to see first.
    pub fn take_in_reply(&self, reply: &[u8], question: &Question, upstream: Upstream) -> Option<Answer> {
        if let Some(answer) = Answer::of_addresses(reply, question) {
            let table = self.table();
            let decision = route(&table, &question.name);
            let is_learned = decision.learnable || table.learned.contains(&question.name);
            // Of a name that may be learned, or has come to belong elsewhere meanwhile, there is more to say.
            if !is_learned && !chain::leads_elsewhere(&decision, upstream) {
                return Some(self.keep(question, upstream, answer, Validity::Always));
            }
        }
        self.take_in(Message::parse(reply).ok()?, question, upstream)
    }

    /// Makes a whole reply an answer and keeps it. `None` where more has to be asked for it: a part of it belongs elsewhere, or
    /// it says neither that there is something nor that there is nothing.
    pub fn take_in(&self, message: Message, question: &Question, upstream: Upstream) -> Option<Answer> {
        if message.truncated || !matches!(message.rcode, rcode::NOERROR | rcode::NXDOMAIN) {
            return None;
        }
        let examined = self.examine(message, question, upstream);
        if examined.cut.is_some() {
            return None;
        }
        let (answer, validity) = examined.conclude(question);
        Some(self.keep(question, upstream, answer, validity))
    }

    /// Puts an answer into the cache, if it may serve others.
    pub(super) fn keep(&self, question: &Question, upstream: Upstream, answer: Answer, validity: Validity) -> Answer {
        let key = CacheKey::of_question(question, upstream);
        let now = Instant::now().into_std();
        let evicted = match &key {
            Some(key) if answer.is_failure() => {
                // The table may have changed meanwhile; what still holds good under it must not give way to a failure.
                let table = self.table();
                let routing = |kept: &Answer| chain::routing(&kept.message(), question, &table);
                self.cache.renew(key, table.generation, routing);
                self.cache.insert_failure(key, answer.clone(), now, table.generation)
            }
            Some(key) => self.cache.insert(key, answer.clone(), now, validity),
            None => 0,
        };
        self.counters.evicted.fetch_add(evicted, Ordering::Relaxed);
        answer
    }

    /// Tells the observer what public DNS says of names whose ids are learned.
    fn observe(&self, message: &Message, question: &Question) {
        let Some(observer) = &self.observer else { return };
        let table = self.table();
        let links: Vec<HostName> =
            message.chain(question.name.wire()).into_iter().filter_map(|link| HostName::from_wire(link).ok()).collect();
        for (position, link) in links.iter().enumerate() {
            let is_last = position + 1 == links.len();
            let existence = match message.rcode {
                // The code speaks of the last name; those before it exist (RFC 6604).
                rcode::NXDOMAIN if is_last => Existence::NoSuchName,
                rcode::NXDOMAIN | rcode::NOERROR => Existence::Exists,
                _ => continue,
            };
            if route(&table, link).learnable || table.learned.contains(link) {
                observer(link, existence);
            }
        }
    }
}

impl Examined {
    /// The answer, cut no more, and under which tables it holds good.
    pub(super) fn conclude(self, question: &Question) -> (Answer, Validity) {
        let Self { message, table, mentions_others, .. } = self;
        let name = question.name.wire();
        let validity = if mentions_others {
            Validity::While { generation: table.generation, routing: chain::routing(&message, question, &table) }
        } else {
            Validity::Always
        };
        let in_zone = |link: &[u8]| HostName::from_wire(link).is_ok_and(|link| table.zone_of(&link).is_some());
        let cap = if message.chain(name).into_iter().any(in_zone) { ZONE_NEGATIVE_CAP } else { u32::MAX };
        (Answer::encode(name, question.qtype, &message, cap), validity)
    }
}

/// An answer that says why there is none.
pub(super) fn failure(question: &Question, upstream: Upstream, error: &AskError) -> Answer {
    let extended = match error {
        AskError::Timeout | AskError::NoServer | AskError::Lame(_) | AskError::Status(_) => {
            ExtendedError::NoReachableAuthority
        }
        AskError::Malformed => ExtendedError::InvalidData,
        AskError::ComesBack(_) => ExtendedError::Prohibited,
        AskError::Io(_) | AskError::Closed | AskError::Transport(_) | AskError::Bootstrap(_) | AskError::Egress(_) => {
            ExtendedError::NetworkError
        }
    };
    let group = match upstream {
        Upstream::Public => "public",
        Upstream::Vpc => "vpc",
        Upstream::Zone(_) => "zone",
    };
    let text = format!("{group} upstream: {error}");
    Answer::failure(question.name.wire(), question.qtype, extended, &text, FAILURE_LIFETIME)
}
