//! What takes an address out and what brings it back; time is given.

use super::*;

const ONE: &str = "10.0.0.1";
const TWO: &str = "10.0.0.2";
const SIX: &str = "fd00::1";

/// An endpoint's health, with a clock of its own.
struct Lab {
    health: Health,
    known: Addresses,
    start: Instant,
    now: Instant,
}

fn addresses(texts: &[&str]) -> Addresses {
    let mut addresses = Addresses::default();
    for text in texts {
        match text.parse().unwrap() {
            IpAddr::V4(v4) => addresses.v4.push(v4),
            IpAddr::V6(v6) => addresses.v6.push(v6),
        }
    }
    addresses
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn failed() -> AttemptEnd {
    AttemptEnd::Failed("refused".to_owned())
}

impl Lab {
    fn new(check: HealthCheck, known: &[&str]) -> Self {
        let (now, known) = (Instant::now(), addresses(known));
        let mut health = Health::new(check);
        health.follow(&known, now);
        Self { health, known, start: now, now }
    }

    /// An attempt that begins a second after the one before, and ends at once.
    fn attempt(&mut self, address: &str, end: AttemptEnd) -> Option<Change> {
        self.now += Duration::from_secs(1);
        self.health.count(ip(address), end, self.now, self.now)
    }

    fn fails(&mut self, address: &str) -> Option<Change> {
        self.attempt(address, failed())
    }

    fn connects(&mut self, address: &str) -> Option<Change> {
        self.attempt(address, AttemptEnd::Connected)
    }

    fn usable(&self) -> Vec<String> {
        each(&self.health.usable(&self.known)).map(|ip| ip.to_string()).collect()
    }
}

#[test]
fn two_failures_in_a_row_take_an_address_out_and_two_successes_bring_it_back() {
    let mut lab = Lab::new(HealthCheck::Tcp, &[ONE, TWO]);
    assert_eq!(lab.fails(ONE), None);
    assert_eq!(lab.usable(), [ONE, TWO], "one may be a lost packet");
    assert_eq!(lab.fails(ONE), Some(Change::Down));
    assert_eq!(lab.usable(), [TWO]);
    assert_eq!(lab.connects(ONE), None);
    assert_eq!(lab.usable(), [TWO], "one may be luck");
    assert_eq!(lab.connects(ONE), Some(Change::Up));
    assert_eq!(lab.usable(), [ONE, TWO]);
}

#[test]
fn an_attempt_that_ends_otherwise_starts_the_count_anew() {
    let mut lab = Lab::new(HealthCheck::Tcp, &[ONE, TWO]);
    lab.fails(ONE);
    lab.connects(ONE);
    assert_eq!(lab.fails(ONE), None);
    assert_eq!(lab.fails(ONE), Some(Change::Down));
    lab.connects(ONE);
    lab.fails(ONE);
    assert_eq!(lab.connects(ONE), None);
    assert_eq!(lab.connects(ONE), Some(Change::Up));
}

/// One client may open a hundred connections in the moment in which a packet is lost.
#[test]
fn what_fails_in_the_same_moment_counts_once() {
    for check in [HealthCheck::Tcp, HealthCheck::Off] {
        let mut lab = Lab::new(check, &[ONE, TWO]);
        let begun = lab.start;
        for after in 1..=100 {
            let now = begun + Duration::from_millis(4000 + after);
            assert_eq!(lab.health.count(ip(ONE), failed(), begun, now), None);
        }
        let later = begun + Duration::from_secs(5);
        assert_eq!(lab.health.count(ip(ONE), failed(), later, later), Some(Change::Down));
        let stale = lab.health.count(ip(ONE), AttemptEnd::Connected, begun, later);
        assert_eq!(stale, None, "what began before it fell does not bring it back");
    }
}

#[test]
fn when_all_are_down_in_both_families_all_are_in() {
    let mut lab = Lab::new(HealthCheck::Tcp, &[ONE, TWO, SIX]);
    for address in [ONE, ONE, TWO, TWO] {
        lab.fails(address);
    }
    assert_eq!(lab.usable(), [SIX], "a family may have none while the other has");
    assert!(!lab.health.is_none_up());
    lab.fails(SIX);
    lab.fails(SIX);
    assert_eq!(lab.usable(), [ONE, TWO, SIX]);
    assert!(lab.health.is_none_up());
    lab.connects(TWO);
    lab.connects(TWO);
    assert_eq!(lab.usable(), [TWO]);
    assert!(!Health::new(HealthCheck::Tcp).is_none_up(), "none at all is another problem");
}

#[test]
fn an_address_that_is_not_probed_rests_and_comes_back_on_probation() {
    let mut lab = Lab::new(HealthCheck::Off, &[ONE, TWO]);
    lab.fails(ONE);
    assert_eq!(lab.fails(ONE), Some(Change::Down));
    for _ in 0..2 {
        let back = lab.health.next_return().unwrap();
        assert_eq!(back, lab.now + REST);
        lab.health.end_rests(back - Duration::from_millis(1));
        assert_eq!(lab.usable(), [TWO]);
        lab.health.end_rests(back);
        assert_eq!((lab.usable(), lab.health.next_return()), (vec![ONE.to_owned(), TWO.to_owned()], None));
        lab.now = back;
        assert_eq!(lab.fails(ONE), Some(Change::DownAgain), "one more failure is enough");
    }
    lab.now = lab.health.next_return().unwrap();
    lab.health.end_rests(lab.now);
    assert_eq!(lab.connects(ONE), Some(Change::Up));
    assert_eq!(lab.fails(ONE), None, "a success clears it");
}

#[test]
fn while_no_address_is_up_one_on_probation_pushes_none_out() {
    let mut lab = Lab::new(HealthCheck::Off, &[ONE, TWO]);
    lab.fails(ONE);
    lab.fails(ONE);
    lab.now += Duration::from_secs(25);
    lab.fails(TWO);
    lab.fails(TWO);
    assert_eq!(lab.usable(), [ONE, TWO], "all down, all in");
    lab.now = lab.health.next_return().unwrap();
    lab.health.end_rests(lab.now);
    assert_eq!(lab.usable(), [ONE, TWO], "nobody has connected to it since");
    assert!(lab.health.is_none_up());
    assert_eq!(lab.connects(ONE), Some(Change::Up));
    assert_eq!(lab.usable(), [ONE]);
}

#[test]
fn the_last_address_to_fall_brings_all_in_also_while_another_is_on_probation() {
    let mut lab = Lab::new(HealthCheck::Off, &[ONE, TWO]);
    lab.fails(ONE);
    lab.fails(ONE);
    lab.now = lab.health.next_return().unwrap();
    lab.health.end_rests(lab.now);
    lab.fails(TWO);
    assert_eq!(lab.fails(TWO), Some(Change::Down));
    assert_eq!(lab.usable(), [ONE, TWO]);
}

#[test]
fn a_success_ends_the_rest_of_an_address_that_is_not_probed() {
    let mut lab = Lab::new(HealthCheck::Off, &[ONE]);
    lab.fails(ONE);
    lab.fails(ONE);
    assert!(lab.health.is_none_up());
    assert_eq!(lab.connects(ONE), Some(Change::Up));
    assert_eq!(lab.health.next_return(), None);
}

/// Silence is never a failure to whoever has connected elsewhere by then; where nobody probes it is all there is.
#[test]
fn to_be_overtaken_counts_only_where_nobody_probes() {
    let mut lab = Lab::new(HealthCheck::Off, &[ONE, TWO]);
    lab.attempt(ONE, AttemptEnd::Overtaken);
    assert_eq!(lab.attempt(ONE, AttemptEnd::Overtaken), Some(Change::Down));
    let mut lab = Lab::new(HealthCheck::Tcp, &[ONE, TWO]);
    lab.attempt(ONE, AttemptEnd::Overtaken);
    assert_eq!(lab.attempt(ONE, AttemptEnd::Overtaken), None);
}

#[test]
fn of_addresses_that_stay_all_is_kept_and_of_others_nothing() {
    let mut lab = Lab::new(HealthCheck::Tcp, &[ONE, TWO]);
    lab.fails(ONE);
    lab.fails(ONE);
    lab.fails(TWO);
    lab.health.follow(&addresses(&[ONE, SIX]), lab.now);
    assert_eq!(lab.health.of(ip(ONE)).unwrap().standing, Standing::Down);
    lab.health.follow(&addresses(&[ONE, TWO]), lab.now);
    assert_eq!(lab.fails(TWO), None, "its first failure is forgotten");
    assert_eq!(lab.fails(SIX), None, "who is not followed has no standing");
    let many: Vec<String> = (0..1000).map(|i| format!("10.1.{}.{}", i / 250, i % 250)).collect();
    lab.known = addresses(&many.iter().map(String::as_str).collect::<Vec<_>>());
    lab.health.follow(&lab.known, lab.now);
    assert_eq!(lab.health.followed().count(), MAX_FOLLOWED);
    assert_eq!(lab.usable().len(), 1000, "what is not followed is answered");
}

#[test]
fn near_addresses_are_still_the_first_when_one_of_them_is_down() {
    let mut lab = Lab::new(HealthCheck::Tcp, &[ONE, TWO, "10.9.0.1", SIX, "fd00::2"]);
    (lab.known.near_v4, lab.known.near_v6) = (2, 1);
    lab.fails(ONE);
    lab.fails(ONE);
    let usable = lab.health.usable(&lab.known);
    assert_eq!((usable.v4[0].to_string().as_str(), usable.near_v4, usable.near_v6), (TWO, 1, 1));
    lab.fails(TWO);
    lab.fails(TWO);
    assert_eq!(lab.health.usable(&lab.known).near_v4, 0, "then a far one, which takes turns with its like");
}
