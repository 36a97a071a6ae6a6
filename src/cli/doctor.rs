//! `sidegate doctor URL`: why do I get a 403?

mod text;
mod value;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::app::{self, Surroundings, SystemResolver};
use crate::config::Config;
use crate::doctor::{Request, diagnose};

pub(super) const MANUAL: &str = "\
Asks this host's resolver, the VPC's, public DNS and Sidegate for the name, calls it through the VPC endpoint and over the \
internet, and names the cause with one thing to do. It is over within 15 s and changes nothing. Sidegate need not run.

The call is a GET: HEAD loses the body that tells causes apart, and is another method to API Gateway. It is made on both \
paths, to the internet without its query unless the name is public; and where the answer is {\"message\":\"Forbidden\"} once \
more, for a path in the same stage that no API has. With headers, or a method other than HEAD, it is made only where the \
policy of this configuration sends it. Methods with a body are sent without one.

Values of headers, the query of the URL and bodies of answers below 400 are never printed. What is on a command line can \
be seen by others on this host.

Exit codes: 0 the call works as things are, 1 it does not, 64 wrong command line, 78 wrong configuration. DOCTOR.md has \
every verdict.";

/// What is to be explained, as it was typed.
#[derive(Debug, Args)]
pub(super) struct Call {
    /// https://HOST/PATH, or a host name
    url: String,
    /// Call with this method
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Send this header, 'name: value'; may be repeated
    #[arg(long, value_name = "HEADER")]
    header: Vec<String>,
    /// Resolve as this resolv.conf and the hosts file beside it say: of another container, /proc/PID/root/etc/resolv.conf
    #[arg(long, value_name = "FILE")]
    resolv_conf: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Call {
    /// The call, and how its name is resolved. Not by clap, which would print what was typed.
    ///
    /// # Errors
    /// No call; a file that was named and cannot be read.
    pub(super) fn read(&self, surroundings: &Surroundings) -> anyhow::Result<(Request, SystemResolver)> {
        let request = self.request()?;
        let system = match &self.resolv_conf {
            Some(chosen) => SystemResolver::of_chosen_file(chosen)?,
            None => SystemResolver::of_file(&surroundings.resolv_conf),
        };
        Ok((request, system))
    }

    fn request(&self) -> anyhow::Result<Request> {
        let mut request = Request::of_url(&self.url)?;
        if let Some(method) = &self.method {
            request = request.with_method(method)?;
        }
        Ok(self.header.iter().try_fold(request, |request, header| request.with_header(header))?)
    }
}

/// Examines, judges, prints. True if the call works as things are.
pub(super) async fn doctor(
    config: &Config,
    surroundings: &Surroundings,
    (request, system): &(Request, SystemResolver),
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    let seen = app::examine(config, surroundings, system, request).await?;
    let verdict = diagnose(&seen);
    if json {
        writeln!(out, "{:#}", value::of(request, &seen, &verdict))?;
    } else {
        out.write_all(text::of(request, &seen, &verdict).as_bytes())?;
    }
    Ok(verdict.works())
}
