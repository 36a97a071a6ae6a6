//! `sidegate discover`: the private APIs of the account, printed or kept in a file, so that one scheduled job with
//! permissions feeds a fleet without.

mod output;

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;

use self::output::{Output, Published, publish, write_to};
use super::{complain, counted};
use crate::app::{self, Surroundings};
use crate::config::Config;
use crate::discovery::PrivateApis;

/// A file that would lose most of its ids is replaced only if a second read, so much later, says so too. Those who read the
/// file cannot tell: they would see the same file twice.
const SECOND_READ: Duration = Duration::from_secs(5);

pub(super) const MANUAL: &str = "\
Asks API Gateway for the REST APIs of this account (GetRestApis, 500 a page) in each region that a [[discovery]] of kind \
api-gateway names, else in that of this host, and prints those that are private. How many there are is said on stderr.

  lines   one id a line; which region it is in and which endpoints serve it is left out
  json    an array of objects with id, region, vpc_endpoint_ids and name; several regions or endpoints need this one

Sources of kind file and url read either. Ids of several regions are not printed as lines: exit code 1.

With --output a FILE is replaced at once and whole, so that whoever reads it never sees half a list. It keeps its mode, and \
its owner and group where this user may set them; a new one has 0644, less the umask. The target of a symlink is replaced, \
not the symlink. A single file that is mounted cannot be replaced: mount its directory.

FILE is left as it is, exit code 0, when nothing has changed; and, exit code 1, when API Gateway cannot be read, or when it \
holds ids of a region in which the account now has no private API, as a wrong account or region is likelier than that all \
are gone (remove FILE if they are). A FILE of 10 ids or more of which more than half are gone is replaced if a second read \
5 s later says so too.

A FILE of -, /dev/stdout or /dev/fd/N and character devices are written to, never replaced. FIFOs and sockets are refused.

Permission: apigateway:GET on arn:aws:apigateway:REGION::/restapis (config/iam/discover-policy.json). Credentials: from the \
environment, a profile, IRSA, ECS, EKS pod identity or the instance, as any AWS tool finds them. An account has 10 \
requests a second for all that it does with API Gateway, so let one job run this, not every task:

  sidegate discover --format json --output /shared/private-apis.json";

/// As which text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Lines,
    Json,
}

/// Reads the account, and prints what it has or puts it into `output`.
pub(super) async fn discover(
    config: &Config,
    surroundings: &Surroundings,
    format: Format,
    output: Option<&Path>,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    let named = || output.map(|output| output.display().to_string()).unwrap_or_default();
    let place = output.map_or(Ok(Output::Stdout), Output::of).with_context(named)?;
    let mut first = None;
    loop {
        let apis = app::private_apis(config, surroundings).await?;
        let text = text(&apis, format)?;
        let published = match &place {
            Output::Stdout => {
                out.write_all(text.as_bytes()).and_then(|()| out.flush())?;
                complain(summary(&apis));
                return Ok(true);
            }
            Output::Stderr => io::stderr().write_all(text.as_bytes()).map(|()| Published::Replaced)?,
            Output::Stream(stream) => {
                write_to(stream, text.as_bytes()).map(|()| Published::Replaced).with_context(named)?
            }
            Output::File(path) => publish(&apis.list, text.as_bytes(), path, first.as_ref()).with_context(named)?,
        };
        let (file, summary) = (named(), summary(&apis));
        match published {
            Published::Replaced => complain(format!("{file}: {summary}")),
            Published::Unchanged => complain(format!("{file}: {summary}, as before")),
            Published::NeedsSecondRead => {
                let seconds = SECOND_READ.as_secs();
                complain(format!("{file}: {summary}, and more than half of its ids gone: reads again in {seconds} s"));
                tokio::time::sleep(SECOND_READ).await;
                first = Some(apis.list);
                continue;
            }
        }
        return Ok(true);
    }
}

/// The ids of one region at most can do without it.
fn text(apis: &PrivateApis, format: Format) -> anyhow::Result<String> {
    if format == Format::Json {
        return Ok(apis.list.to_json());
    }
    let with_ids = apis.regions.iter().filter(|region| apis.count(region) > 0).count();
    if with_ids > 1 {
        bail!("lines drop the region, and {with_ids} regions have private APIs: use --format json");
    }
    if apis.regions.len() > 1 {
        complain("warning: lines drop the region, and several are asked: use --format json");
    }
    Ok(apis.list.to_lines())
}

/// How many there are in which region.
fn summary(apis: &PrivateApis) -> String {
    let regions: Vec<_> = apis.regions.iter().map(ToString::to_string).collect();
    if apis.list.is_empty() {
        return format!("no private API in {} of this account: right account and region?", regions.join(", "));
    }
    let counts =
        apis.regions.iter().map(|region| format!("{} in {region}", counted(apis.count(region), "private API")));
    counts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
