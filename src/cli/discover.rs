//! `sidegate discover`: the private APIs of the account, printed or kept in a file, so that one scheduled job with
//! permissions feeds a fleet without.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;

use super::complain;
use crate::app::{self, Surroundings};
use crate::config::Config;
use crate::discovery::List;
use crate::whole_file;

/// Anybody may read it: ids are no secrets. The umask takes its part.
const MODE: u32 = 0o644;

/// A list without ids has no more octets than this, comments included; what is longer counts as one with ids.
const MAX_EMPTY: usize = 64 << 10;

pub(super) const MANUAL: &str = "\
Asks API Gateway for the REST APIs of this account (GetRestApis, 500 a page) in each region that a [[discovery]] of kind \
api-gateway names, else in that of this host, and prints those that are private.

  lines   one id a line; which region it is in and which endpoints serve it is left out
  json    an array of objects with id, region, vpc_endpoint_ids and name; several regions or endpoints need this one

Sources of kind file and url read either.

With --output a FILE is replaced at once and whole, so that whoever reads it never sees half a list. It is left as it is, \
exit code 1, when API Gateway cannot be read; when the account has no private API and FILE holds ids, as a wrong account \
or region is likelier than that all are gone (remove FILE if they are); and, exit code 0, when nothing has changed. The \
target of a symlink is replaced, not the symlink. What is no regular file, such as /dev/stdout, is written to.

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
    let list = app::private_apis(config, surroundings).await?;
    let text = match format {
        Format::Lines => list.to_lines(),
        Format::Json => list.to_json(),
    };
    let Some(output) = output else {
        out.write_all(text.as_bytes())?;
        out.flush()?;
        return Ok(true);
    };
    let changed = publish(&list, text.as_bytes(), output).with_context(|| output.display().to_string())?;
    let (ids, unchanged) = (list.len(), if changed { "" } else { ", as before" });
    complain(format!("{}: {ids} private APIs{unchanged}", output.display()));
    Ok(true)
}

/// Puts a list where it is read from. Whether that changed anything.
fn publish(list: &List, text: &[u8], output: &Path) -> anyhow::Result<bool> {
    match fs::metadata(output) {
        Ok(found) if !found.is_file() => {
            OpenOptions::new().write(true).open(output)?.write_all(text)?;
            return Ok(true);
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            whole_file::replace(&target(output)?, text, MODE)?;
            return Ok(true);
        }
        Err(error) => return Err(error.into()),
    }
    // As much as tells whether it is the same, or may be a list without ids.
    let mut before = Vec::new();
    let most = text.len().max(MAX_EMPTY);
    File::open(output)?.take(most as u64 + 1).read_to_end(&mut before)?;
    if before == text {
        return Ok(false);
    }
    if list.is_empty() && (before.len() > most || !is_empty_list(&before)) {
        bail!(
            "stays as it is: the account has no private API in the region asked, and there are ids in it: correct the \
             credentials or the region, or remove the file if they are gone"
        );
    }
    whole_file::replace(&target(output)?, text, MODE)?;
    Ok(true)
}

/// What is no list at all may be anything, and is not replaced by nothing.
fn is_empty_list(text: &[u8]) -> bool {
    List::parse(text, true).is_ok_and(|list| list.is_empty())
}

/// Where a path leads, so that a rename does not put a file in the place of a symlink.
fn target(output: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(output) {
        // A symlink whose target is not there yet, or nothing at all.
        Err(error) if error.kind() == ErrorKind::NotFound => match fs::read_link(output) {
            Ok(target) => Ok(output.with_file_name("").join(target)),
            Err(_) => Ok(output.to_owned()),
        },
        found => found,
    }
}

#[cfg(test)]
mod tests;
