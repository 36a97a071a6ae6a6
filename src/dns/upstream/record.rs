//! How each server does, as operators see it: `app` makes metrics of it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::health::Totals;
use super::server::Server;
use super::upstreams::Upstreams;

/// One server of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerRecord {
    /// `public`, `vpc`, or `zone:` and the zone's name.
    pub group: String,
    /// The server as configured, but for the path of `https://`, in which some providers put an account's key. Servers that
    /// look alike then are numbered, by their position in the configuration.
    pub server: String,
    /// Failures in a row, 16 at most.
    pub failures: u32,
    /// The smoothed time to an answer.
    pub smoothed: Option<Duration>,
    /// Questions answered with whatever but SERVFAIL, answered with SERVFAIL, refused, and not answered.
    pub results: [(&'static str, u64); 4],
}

impl Upstreams {
    /// Every server of every group, in the order of the configuration.
    pub fn records(&self) -> Vec<ServerRecord> {
        let mut records: Vec<ServerRecord> = Vec::new();
        for (group, servers) in self.groups() {
            let mut names: Vec<String> = Vec::new();
            for peer in servers {
                let name = without_path(peer.server());
                let alike = names.iter().filter(|other| **other == name).count();
                let server = if alike == 0 { name.clone() } else { format!("{name} ({})", alike + 1) };
                names.push(name);
                let health = peer.health();
                records.push(ServerRecord {
                    group: group.clone(),
                    server,
                    failures: health.failures(),
                    smoothed: health.smoothed(),
                    results: results(health.totals()),
                });
            }
        }
        records
    }

    /// Goes on counting for the servers that were in the same group before.
    pub fn count_on(&self, before: &Self) {
        for (group, servers) in self.groups() {
            let Some((_, known)) = before.groups().find(|(known, _)| *known == group) else { continue };
            for peer in servers {
                if let Some(known) = known.iter().find(|known| known.server() == peer.server()) {
                    let known = known.health().clone();
                    peer.health().count_on(known.totals());
                }
            }
        }
    }
}

fn results(totals: &Totals) -> [(&'static str, u64); 4] {
    let Totals { answered, servfail, refused, failed } = totals;
    [("answered", answered), ("servfail", servfail), ("refused", refused), ("failed", failed)]
        .map(|(result, total)| (result, total.load(Ordering::Relaxed)))
}

fn without_path(server: &Server) -> String {
    Server { path: String::new(), ..server.clone() }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::config;

    fn upstreams(public: &[&str], zone: &str) -> Upstreams {
        let servers = |servers: &[&str]| servers.iter().map(|server| server.parse().unwrap()).collect();
        let config = config::Upstreams {
            public: servers(public),
            zones: vec![servers(&["10.0.0.2"])],
            zone_names: vec![zone.parse().unwrap()],
            ..config::Upstreams::default()
        };
        Upstreams::new(&config, &[], None).unwrap()
    }

    fn names(upstreams: &Upstreams) -> Vec<(String, String)> {
        upstreams.records().into_iter().map(|record| (record.group, record.server)).collect()
    }

    #[test]
    fn no_path_becomes_a_label_and_no_two_servers_of_a_group_have_one_name() {
        let upstreams = upstreams(&["https://192.0.2.1/s3cret", "https://192.0.2.1/other", "10.0.0.2"], "vpc");
        let expected = [
            ("public", "https://192.0.2.1"),
            ("public", "https://192.0.2.1 (2)"),
            ("public", "udp://10.0.0.2"),
            ("zone:vpc", "udp://10.0.0.2"),
        ];
        assert_eq!(names(&upstreams), expected.map(|(group, server)| (group.to_owned(), server.to_owned())));
    }

    #[test]
    fn a_server_that_stays_in_its_group_goes_on_counting() {
        let before = upstreams(&["10.0.0.1"], "corp.internal");
        for (_, group) in before.groups() {
            group.iter().for_each(|peer| peer.health().failed());
        }
        let after = upstreams(&["10.0.0.9", "10.0.0.1"], "other.internal");
        after.count_on(&before);
        let failed = |upstreams: &Upstreams| upstreams.records().iter().map(|r| r.results[3].1).collect::<Vec<_>>();
        assert_eq!(failed(&after), [0, 1, 0], "the last is in another zone's group");
        for (_, group) in before.groups() {
            group.iter().for_each(|peer| peer.health().failed());
        }
        assert_eq!(failed(&after), [0, 2, 0], "what was under way is counted as well");
    }
}
