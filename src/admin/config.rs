//! What the admin listener needs to know to run; `config` fills it.

use std::net::SocketAddr;

use crate::policy::HostName;

/// The admin listener's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `None` turns it off.
    pub listen: Option<SocketAddr>,
    /// Names that a Host header may carry beside IP literals and localhost.
    pub hosts: Vec<HostName>,
}
