//! Is a listener alive? One question about a reserved name, over UDP, as any client would ask it.
//!
//! `admin` asks for `/live`, `sidegate health` where admin is off.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use super::question::Question;
use super::respond::HEALTH_NAME;
use super::upstream::OwnSockets;
use super::upstream::ask_udp;
use super::wire::rtype;
use crate::policy::as_seen_from_here;

/// A listener that takes longer is not well.
const WITHIN: Duration = Duration::from_secs(1);

/// Asks a listener for the reserved name. Any reply counts, a refusal too: it shows that the listener answers.
///
/// # Errors
/// In words for an operator.
pub async fn ask(listener: SocketAddr) -> Result<(), String> {
    let address = as_seen_from_here(listener);
    let name = HEALTH_NAME.parse().map_err(|error| format!("{HEALTH_NAME}: {error}"))?;
    let mut query = Question::new(name, rtype::TXT).to_wire(false);
    match timeout(WITHIN, ask_udp(address, &mut query, &OwnSockets::default())).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("{listener} does not answer: {error}")),
        Err(_) => Err(format!("{listener} does not answer within one second")),
    }
}
