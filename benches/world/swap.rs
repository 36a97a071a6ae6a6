//! What queries notice of a table that is replaced: a UDP listener on loopback is asked for private names at a steady
//! pace, while nothing happens, while tables are built and thrown away, and while they are built and published, in turns. What
//! the third costs beyond the second is the swap; what the second costs is having to share the processors.

use std::net::UdpSocket;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sidegate::discovery::List;
use sidegate::dns::{Config, Encrypted, Plane, Question, Upstreams, ZoneAnswer, rtype};
use sidegate::policy::{Binding, Knowledge, Networks, Origin, PrivateIds, Table};
use tokio::sync::watch;

use crate::world::{name_of, table};

/// Queries a second.
const PACE: u64 = 2_000;
/// Swaps of the table in a phase, evenly spread.
const SWAPS: u32 = 20;
/// How long a phase takes.
const PHASE: Duration = Duration::from_secs(10);
/// So often each of the three phases.
const TURNS: usize = 2;
/// What a swap may cost a query.
const PROMISED: Duration = Duration::from_millis(1);
/// A reply that takes longer than this is lost.
const LOST: Duration = Duration::from_secs(2);

/// What `discovery` makes of one source's list.
pub fn private_ids(list: &List) -> PrivateIds {
    let origin = Origin::Source("file /ids".into());
    let mut ids = PrivateIds::with_capacity(list.len());
    for entry in list.entries() {
        let bound = entry.vpc_endpoint_ids.as_slice();
        let binding = (!bound.is_empty()).then_some(Binding::Ids(bound));
        ids.add(&entry.id, Knowledge { region: entry.region.as_ref(), binding, origin: &origin, since: entry.since });
    }
    ids
}

/// Prints the latencies of each kind of phase. Not measured, it is a short one of each.
pub fn compare(list: &Arc<List>, measured: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _entered = runtime.enter();
    let mut first = table(0);
    first.ids = Arc::new(private_ids(list));
    let tables = watch::Sender::new(Arc::new(first));
    let config = Config {
        listen: vec![([127, 0, 0, 1], 0).into()],
        encrypted: Encrypted::default(),
        whole_vpc: false,
        workers: NonZeroUsize::MIN,
        clients: Networks::private(),
        upstreams: Upstreams::default(),
        answer: ZoneAnswer::Endpoint,
        egress_proxy: None,
        extra_roots: Vec::new(),
    };
    let mut plane = Plane::bind(config, tables.subscribe(), None).unwrap();
    plane.serve().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(plane.addresses()[0]).unwrap();
    socket.set_read_timeout(Some(LOST)).unwrap();

    let (phase, turns) = if measured { (PHASE, TURNS) } else { (Duration::from_millis(200), 1) };
    let mut latencies = [const { Vec::new() }; 3];
    for turn in 0..3 * turns {
        let kind = turn % 3;
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            if kind > 0 {
                scope.spawn(|| swap(&runtime, &tables, list, phase, kind == 2, &done));
            }
            latencies[kind].extend(ask(&socket, list.len(), phase));
            done.store(true, Ordering::Relaxed);
        });
    }
    drop(plane);
    println!("{PACE} queries a second for private names over UDP");
    println!(
        "{:<16} {:>8} {:>6} {:>10} {:>10} {:>10} {:>10} {:>8}",
        "", "queries", "lost", "median", "p99", "p99.9", "worst", "> 1 ms"
    );
    for (case, mut times) in ["nothing happens", "built only", "built, swapped"].into_iter().zip(latencies) {
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
        let lost = times.iter().filter(|time| **time >= LOST).count();
        let slow = times.iter().filter(|time| **time > PROMISED).count();
        let (p50, p99, p999, worst) = (at(0.5), at(0.99), at(0.999), at(1.0));
        let count = times.len();
        println!(
            "{case:<16} {count:>8} {lost:>6} {p50:>7.0} us {p99:>7.0} us {p999:>7.0} us {worst:>7.0} us {slow:>8}"
        );
        assert!(lost * 10 < times.len(), "most are answered");
    }
}

/// Builds a table again and again and publishes it, as `discovery` does: on a thread that may block, then at once. Whoever
/// lets go of the one before last frees it.
fn swap(
    runtime: &tokio::runtime::Runtime,
    tables: &watch::Sender<Arc<Table>>,
    list: &Arc<List>,
    phase: Duration,
    publish: bool,
    done: &AtomicBool,
) {
    let begun = Instant::now();
    for turn in 1..=SWAPS {
        thread::sleep((phase * turn / (SWAPS + 1)).saturating_sub(begun.elapsed()));
        if done.load(Ordering::Relaxed) {
            return;
        }
        let list = Arc::clone(list);
        let ids = runtime.block_on(runtime.spawn_blocking(move || private_ids(&list))).unwrap();
        if !publish {
            continue;
        }
        tables.send_modify(|table| {
            let mut next = Table::clone(table);
            next.ids = Arc::new(ids);
            next.generation += 1;
            *table = Arc::new(next);
        });
    }
}

/// Sends at the pace, whatever comes back, and gives the time from sending to the reply of each query.
fn ask(socket: &UdpSocket, ids: usize, phase: Duration) -> Vec<Duration> {
    let count = (phase.as_secs_f64() * PACE as f64) as usize;
    let begun = Instant::now();
    let sent: Vec<AtomicU64> = (0..count).map(|_| AtomicU64::new(0)).collect();
    let mut latencies = vec![LOST; count];
    thread::scope(|scope| {
        scope.spawn(|| {
            for (at, sent) in sent.iter().enumerate() {
                thread::sleep((begun + Duration::from_micros(at as u64 * 1_000_000 / PACE)) - Instant::now());
                let name = name_of(at * 7 % ids);
                let mut query = Question::new(name.parse().unwrap(), rtype::A).to_wire(true);
                query[..2].copy_from_slice(&(at as u16).to_be_bytes());
                sent.store(begun.elapsed().as_nanos() as u64, Ordering::Release);
                socket.send(&query).unwrap();
            }
        });
        let mut reply = [0; 1500];
        for _ in 0..count {
            let Ok(length) = socket.recv(&mut reply) else { break };
            let now = begun.elapsed().as_nanos() as u64;
            assert_eq!((reply[3] & 15, &reply[6..8], length > 12), (0, &[0, 2][..], true), "two addresses");
            let at = usize::from(u16::from_be_bytes([reply[0], reply[1]]));
            latencies[at] = Duration::from_nanos(now - sent[at].load(Ordering::Acquire));
        }
    });
    latencies
}
