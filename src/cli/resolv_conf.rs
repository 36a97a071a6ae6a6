//! `sidegate resolv-conf install|restore`: points resolv.conf at the running Sidegate, and puts it back.

use std::path::Path;
use std::process::ExitCode;

use super::{complain, say};
use crate::admin;
use crate::app::{self, Installed, Surroundings};
use crate::config::Config;
use crate::resolv_conf::{self, Step};

pub(super) const MANUAL: &str = "\
install asks the running Sidegate first: only where names are resolved the file is changed. Its former text stays in it \
as comments, and restore puts that back to the byte. Both change nothing where there is nothing to change.

In a systemd unit: ExecStartPost=-+sidegate resolv-conf install, and restore once it has stopped, as in config/systemd. In a \
container that may write the file, dns.take_over = true does both by itself. See RESOLV_CONF.md.";

#[derive(Debug, Clone, Copy, clap::Subcommand)]
pub(super) enum What {
    /// Have names resolved by the running Sidegate, once it resolves some
    Install,
    /// Put the file back as it was
    Restore,
}

/// Points the file at the Sidegate that runs with this configuration.
pub(super) async fn install(config: &Config, surroundings: &Surroundings) -> anyhow::Result<bool> {
    let path = surroundings.resolv_conf.display();
    match app::install(config, surroundings).await? {
        Installed::Already { address } => say(format!("{path} leads to {address} already")),
        Installed::Neighbour { address } => {
            say(format!("{path} leads to another Sidegate at {address}, which answers: left to it"));
        }
        Installed::Now { address, former } => {
            let former: Vec<String> = former.iter().map(ToString::to_string).collect();
            if former.is_empty() {
                complain(format!(
                    "warning: {path} named no other server, and restore leaves it so: set upstream.vpc to the VPC's servers"
                ));
            }
            let former = if former.is_empty() { "no other server".to_owned() } else { former.join(", ") };
            say(format!("{path} leads to {address}, in place of {former}"));
            if !config.default_upstream_is_set && !config.take_over {
                tell(config).await;
            }
        }
    }
    Ok(true)
}

/// From now on its default upstream is the VPC's servers: it sees that when it reads its configuration again.
async fn tell(config: &Config) {
    let told = match config.admin.listen {
        Some(admin) => admin::client::reload(admin).await.map(drop),
        None => Err("admin.listen is off".to_owned()),
    };
    if let Err(error) = told {
        complain(format!(
            "warning: names that only the VPC knows still go to public DNS ({error}): set upstream.default = \"vpc\""
        ));
    }
}

/// Puts the file back, whichever Sidegate has it.
pub(super) fn restore(path: &Path) -> ExitCode {
    let change = resolv_conf::change(path, |text| resolv_conf::put_back(text, None));
    let path = path.display();
    if change.as_ref().is_ok_and(|change| change.was_locked) {
        complain(format!("warning: another program keeps {path} locked: not waited for any longer"));
    }
    match change.map(|change| change.step) {
        Ok(Step::Write(_)) => say(format!("{path} is as it was")),
        Ok(Step::Nothing | Step::Neighbour(_)) => {
            say(format!("{path} does not lead to a Sidegate: nothing to put back"));
        }
        Ok(Step::Unknown) => {
            complain(format!(
                "{path} is taken over in a form that this version does not know: restore it by the newer one"
            ));
            return ExitCode::FAILURE;
        }
        Err(refusal) => {
            complain(refusal);
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
