//! Every seed and everything that was ever found, and from there rounds of changed octets: the same each time.
//!
//! `SIDEGATE_FUZZ_ROUNDS` sets how many rounds each target has, 2,000 by default.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use sidegate_fuzz::{TARGETS, Target};

const ROUNDS: u64 = 2_000;
/// Inputs are kept this short, so that rounds stay quick.
const LONGEST: usize = 8 * 1024;

fn target(name: &str) -> Target {
    TARGETS.iter().find(|(other, _)| *other == name).expect("a target").1
}

/// The contents of a folder, by file name.
fn inputs(folder: &str, name: &str) -> Vec<(String, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(name);
    let Ok(files) = fs::read_dir(&path) else { return Vec::new() };
    let mut inputs: Vec<_> = files
        .map(|file| file.expect("an entry").path())
        .map(|path| (path.display().to_string(), fs::read(&path).expect("a file")))
        .collect();
    inputs.sort();
    inputs
}

fn replay(name: &str) {
    let run = target(name);
    let seeds = inputs("seeds", name);
    assert!(!seeds.is_empty(), "{name} has no seed");
    for (path, input) in seeds.iter().chain(&inputs("regressions", name)) {
        assert!(catch_unwind(|| run(input)).is_ok(), "{path} breaks a promise");
    }
    let rounds = std::env::var("SIDEGATE_FUZZ_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("a number"));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..rounds {
        let input = changed(&seeds, &mut random);
        assert!(catch_unwind(|| run(&input)).is_ok(), "round {round} breaks a promise: {}", input.escape_ascii());
    }
}

/// A seed with some of its octets changed, cut out, doubled, or taken from another seed.
fn changed(seeds: &[(String, Vec<u8>)], random: &mut Random) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].1.clone();
    for _ in 0..=random.below(8) {
        let at = random.below(input.len() + 1);
        match random.below(6) {
            0 => input.insert(at, random.next() as u8),
            1 => input.truncate(at),
            2 => drop(input.drain(at..input.len().min(at + random.below(16)))),
            3 => {
                let other = &seeds[random.below(seeds.len())].1;
                let from = random.below(other.len() + 1);
                let piece = other[from..other.len().min(from + random.below(64))].to_vec();
                input.splice(at..at, piece);
            }
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = if random.below(2) == 0 { random.next() as u8 } else { *byte ^ (1 << random.below(8)) };
                }
            }
        }
    }
    input.truncate(LONGEST);
    input
}

/// SplitMix64: rounds are to be the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

#[test]
fn respond_keeps_its_promises() {
    replay("respond");
}

#[test]
fn upstream_replies_keep_their_promises() {
    replay("replies");
}

#[test]
fn host_names_keep_their_promises() {
    replay("host_names");
}

#[test]
fn client_hellos_keep_their_promises() {
    replay("client_hello");
}

#[test]
fn heads_of_connect_keep_their_promises() {
    replay("connect");
}

#[test]
fn lists_of_ids_keep_their_promises() {
    replay("id_lists");
}

#[test]
fn configurations_keep_their_promises() {
    replay("config");
}
