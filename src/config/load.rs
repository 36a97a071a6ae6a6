//! Lays the layers over each other, has every section read, and says all that is wrong in one go.
//!
//! The body of [`super::Config::load`].

use super::document::{DEFAULT_TEXT, Document, Place};
use super::error::{ConfigErrors, Problem};
use super::excerpt::Sources;
use super::inputs::Inputs;
use super::read::Reader;
use super::rules::{self, Facts};
use super::text::{self, Layer};
use super::{Config, arrays, environment, sections};
use crate::dns;

pub(super) fn load(inputs: &Inputs) -> Result<Config, ConfigErrors> {
    let (document, mut problems) = layers(inputs);
    let mut facts = Facts::default();
    let mut config = read(inputs, &document, &mut problems, &mut facts);
    // After a syntax error most keys look as if they were not set: what they would break together says nothing.
    if document.complete {
        config.warnings = rules::check(&config, &facts, &document, &mut problems);
    }
    if problems.is_empty() { Ok(config) } else { Err(located(inputs, document, problems)) }
}

/// Errors from before anything could be loaded, together with those of the environment.
pub(super) fn errors_beside(inputs: &Inputs, mut problems: Vec<Problem>) -> ConfigErrors {
    let (document, more) = layers(inputs);
    problems.extend(more);
    read(inputs, &document, &mut problems, &mut Facts::default());
    located(inputs, document, problems)
}

/// All layers as one document, and what is wrong with their keys.
fn layers(inputs: &Inputs) -> (Document, Vec<Problem>) {
    let mut document = text::read(DEFAULT_TEXT, Layer::Default);
    let mut problems = std::mem::take(&mut document.problems);
    document.secrets.clear();
    if let Some((_, written)) = &inputs.file {
        let file = text::read(written, Layer::File);
        document.keys.extend(file.keys);
        document.arrays.extend(file.arrays);
        document.secrets = file.secrets;
        document.complete &= file.complete;
        problems.extend(file.problems);
    }
    document.keys.extend(environment::read(&inputs.environment, &mut problems));
    (document, problems)
}

/// Every section. What it returns is only a configuration if `problems` stays empty.
fn read(inputs: &Inputs, document: &Document, problems: &mut Vec<Problem>, facts: &mut Facts) -> Config {
    let mut reader = Reader { keys: &document.keys, problems };
    let top = sections::top(&mut reader);
    let suffix = sections::dns_suffix(&mut reader);
    let region = sections::region(&mut reader, &inputs.environment, suffix.any_region);
    let policy = sections::policy(&mut reader, suffix.value, facts);
    let (public, vpc) = sections::servers(&mut reader, facts);
    let upstream = sections::upstream(&mut reader, facts);
    let forward = sections::forward(&mut reader, top.clients.clone(), facts);
    let dns = sections::dns(&mut reader, &forward.sni_listen, facts);
    let admin = sections::admin(&mut reader, facts);
    let log = sections::log(&mut reader);
    let endpoints = arrays::endpoints(document, reader.problems, suffix.any_region, facts);
    let discovery = arrays::sources(document, reader.problems, suffix.any_region, facts);
    let (zones, zone_servers) = arrays::zones(document, reader.problems, facts);
    Config {
        state_dir: top.state_dir,
        state_dir_is_set: top.state_dir_is_set,
        clients: top.clients.clone(),
        grace: top.grace,
        linger: top.linger,
        region,
        policy,
        endpoints,
        default_upstream: upstream.default,
        default_upstream_is_set: upstream.default_is_set,
        zones: zones.clone(),
        dns: dns::Config {
            listen: dns.listen,
            workers: dns.workers,
            clients: top.clients,
            upstreams: dns::Upstreams { public, vpc, zones: zone_servers, zone_names: zones },
            answer: dns.answer,
            egress_proxy: forward.parent_proxy.clone().filter(|_| upstream.via_parent),
            extra_roots: forward.extra_roots.clone(),
        },
        vpc_is_set: upstream.vpc_is_set,
        take_over: dns.take_over,
        forward,
        discovery,
        admin,
        log,
        warnings: Vec::new(),
    }
}

/// The errors as an operator reads them: the file from top to bottom, then variables by name.
fn located(inputs: &Inputs, document: Document, mut problems: Vec<Problem>) -> ConfigErrors {
    problems.sort_by_cached_key(|problem| match &problem.place {
        Place::Default(span) => (0, span.start, String::new()),
        Place::File(span) => (1, span.start, String::new()),
        Place::Named(name) => (2, 0, name.clone()),
    });
    let file = inputs.file.as_ref().map(|(path, text)| (path.as_str(), text.as_str()));
    let sources = Sources { file, secrets: document.secrets };
    let count = problems.len();
    let kept = problems.into_iter().take(ConfigErrors::MOST);
    ConfigErrors::new(kept.map(|problem| sources.locate(problem)).collect(), count)
}
