//! The group of the VPC's resolver, behind the one gate that every question to it passes.
//!
//! Where a whole VPC asks us, Resolver rules send names of API Gateway's zones from the VPC's resolver to us: asked of it,
//! they come back. For which regions there are rules is not known here. So no such name is asked, whoever wants to know: a
//! client, the policy, a look-up of our own, a server's name. `upstreams` has no other way to these servers.

use std::sync::Arc;

use tokio::time::Instant;

use super::bootstrap::Bootstrap;
use super::exchange::AskError;
use super::group::{First, Group};
use super::peer::{Peer, Prompt};
use crate::dns::message::Message;
use crate::dns::question::Question;
use crate::policy::ApiZones;

/// The `vpc` group and the zones it is never asked for, if there are any.
#[derive(Debug, Default)]
pub struct VpcGroup {
    group: Group,
    never: Option<Arc<ApiZones>>,
}

impl VpcGroup {
    pub fn new(group: Group, never: Option<Arc<ApiZones>>) -> Self {
        Self { group, never }
    }

    /// As `Group::ask`.
    ///
    /// # Errors
    /// As `Group::ask`; `ComesBack` for a name in a zone that the group is never asked for.
    pub async fn ask(
        &self,
        question: &Question,
        bootstrap: Bootstrap<'_>,
        deadline: Instant,
        first: Option<First>,
    ) -> Result<Message, AskError> {
        self.permit(question)?;
        self.group.ask(question, bootstrap, deadline, first).await
    }

    /// As `Group::claim_probe`, for a server that may be asked this.
    pub fn claim_probe(&self, question: &Question) -> Option<Arc<Peer>> {
        self.permit(question).ok().and_then(|()| self.group.claim_probe())
    }

    /// As `Group::prompt`, for what may be asked.
    pub fn prompt(&self, question: &Question) -> Option<(&Arc<Peer>, Prompt)> {
        self.permit(question).ok().and_then(|()| self.group.prompt())
    }

    /// For their health; whoever asks one goes past the gate.
    pub fn peers(&self) -> &[Arc<Peer>] {
        self.group.peers()
    }

    fn permit(&self, question: &Question) -> Result<(), AskError> {
        match &self.never {
            Some(zones) if zones.hold(&question.name) => Err(AskError::ComesBack(question.name.to_string())),
            _ => Ok(()),
        }
    }
}
