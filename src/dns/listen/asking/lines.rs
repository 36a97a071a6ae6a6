//! The lines by which one worker asks servers that keep a connection, and what comes back by all of them.

use std::io;
use std::sync::Arc;

use crate::dns::listen::poller::Poller;
use crate::dns::upstream::{Inbox, Line, Peer, Received, Ticket, Upstreams};

/// A line for each server that was asked.
pub(super) struct Lines {
    poller: Arc<Poller>,
    /// There once a line is.
    inbox: Option<Arc<Inbox>>,
    open: Vec<(Arc<Peer>, Line)>,
}

impl Lines {
    /// What the poller knows the inbox by: no port has that number.
    pub(super) const READY: u64 = u64::MAX;

    pub(super) fn new(poller: Arc<Poller>) -> Self {
        Self { poller, inbox: None, open: Vec::new() }
    }

    /// Takes a query for the next [`Lines::flush`].
    ///
    /// # Errors
    /// The system's, where it gives no descriptor.
    pub(super) fn ask(
        &mut self,
        peer: &Arc<Peer>,
        upstreams: &Upstreams,
        ticket: Ticket,
        query: Vec<u8>,
    ) -> io::Result<()> {
        // One whose task has ended would leave its questions unasked.
        self.open.retain(|(_, line)| !line.is_dead());
        let at = match self.open.iter().position(|(of, _)| Arc::ptr_eq(of, peer)) {
            Some(at) => at,
            None => {
                let line = upstreams.line(peer, self.inbox()?);
                self.open.push((Arc::clone(peer), line));
                self.open.len() - 1
            }
        };
        self.open[at].1.ask(ticket, query);
        Ok(())
    }

    fn inbox(&mut self) -> io::Result<&Arc<Inbox>> {
        match &mut self.inbox {
            Some(inbox) => Ok(inbox),
            none => {
                let inbox = Arc::new(Inbox::new()?);
                self.poller.add(&*inbox, Self::READY)?;
                Ok(none.insert(inbox))
            }
        }
    }

    pub(super) fn flush(&mut self) {
        self.open.iter_mut().for_each(|(_, line)| line.flush());
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.inbox.as_ref().map(|inbox| inbox.take()).unwrap_or_default()
    }
}

impl Drop for Lines {
    /// The tasks hold the inbox for a moment longer, and nobody reads it any more.
    fn drop(&mut self) {
        if let Some(inbox) = &self.inbox {
            self.poller.remove(&**inbox);
        }
    }
}
