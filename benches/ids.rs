//! What 100,000 private ids cost: time to read them and to build what the table keeps of them, memory, and what queries
//! notice of it when the table is replaced. README.md beside this file says how to read it.
#![allow(unsafe_code, reason = "a global allocator that counts cannot be written without")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench stops at once, and prints a table"
)]

#[path = "world/swap.rs"]
mod swap;
mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sidegate::discovery::{
    AddressSource, Config, Discovery, EndpointConfig, HealthCheck, List, SourceConfig, SourceKind,
};
use sidegate::policy::Upstream;

const IDS: usize = 100_000;
/// So many runs of each; the best and the worst are shown.
const RUNS: usize = 10;

/// The system's allocator, and how many octets this thread has of it.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

fn count(octets: usize, sign: isize) {
    // A thread that ends gives back memory when this is gone already.
    let _ = HELD.try_with(|held| held.set(held.get().wrapping_add(sign * octets as isize)));
}

// SAFETY: every call is passed on to the system's allocator as it came; counting touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, 1);
        count(layout.size(), -1);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    // `cargo test --bench ids` only sees that it works.
    let measured = std::env::args().any(|argument| argument == "--bench");
    let (ids, runs) = if measured { (IDS, RUNS) } else { (1_000, 1) };
    println!("{ids} ids{}", if measured { "" } else { ", not measured" });
    println!("{:<44} {:>10} {:>10} {:>16}", "", "best", "worst", "heap octets/id");
    for (case, text) in [
        ("parse: one id a line", lines(ids)),
        ("parse: JSON array of ids", array(ids)),
        ("parse: JSON objects, all keys", objects(ids)),
    ] {
        let list = timed(case, ids, runs, || List::parse(text.as_bytes(), false).unwrap());
        assert_eq!(list.len(), ids);
    }
    let list = Arc::new(List::parse(objects(ids).as_bytes(), false).unwrap());
    let private = timed("build PrivateIds, all keys", ids, runs, || swap::private_ids(&list));
    assert_eq!(private.len(), ids);
    drops(&list, runs);
    last_good(ids, runs);
    swap::compare(&list, measured);
}

/// Prints what it takes to make something, and what of the heap it holds.
fn timed<T>(case: &str, ids: usize, runs: usize, make: impl Fn() -> T) -> T {
    let before = HELD.get();
    let mut made = make();
    let per_id = (HELD.get() - before) as f64 / ids as f64;
    let mut times = Vec::new();
    for _ in 0..runs {
        let begun = Instant::now();
        made = black_box(make());
        times.push(begun.elapsed());
    }
    print_times(case, &times, &format!("{per_id:.1}"));
    made
}

fn print_times(case: &str, times: &[Duration], last: &str) {
    let [best, worst] = [times.iter().min(), times.iter().max()].map(|time| time.copied().unwrap_or_default());
    println!("{case:<44} {:>10} {:>10} {last:>16}", shown(best), shown(worst));
}

fn shown(time: Duration) -> String {
    if time < Duration::from_millis(1) {
        format!("{:.1} us", time.as_secs_f64() * 1e6)
    } else {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    }
}

fn drops(list: &Arc<List>, runs: usize) {
    let drop_of = |_| {
        let private = swap::private_ids(list);
        let begun = Instant::now();
        drop(private);
        begun.elapsed()
    };
    let times: Vec<_> = (0..runs).map(drop_of).collect();
    print_times("drop PrivateIds", &times, "");
}

/// A start without the source: from the last good list on disk to the first table.
fn last_good(ids: usize, runs: usize) {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let path = folder.path().join("ids");
    fs::write(&path, objects(ids)).unwrap();
    keep(&config);
    fs::remove_file(path).unwrap();
    let first = timed("first table from the last good list", ids, runs, || Discovery::new(config.clone()).unwrap());
    assert_eq!(first.table().borrow().ids.len(), ids);
}

fn config(folder: &Path) -> Config {
    let endpoint = EndpointConfig {
        region: None,
        vpce_id: None,
        addresses: AddressSource::Static(vec![[10, 0, 1, 10].into()]),
        private_api_ids: Vec::new(),
        health: HealthCheck::Off,
        port: 443,
    };
    let kind = SourceKind::File { path: folder.join("ids") };
    Config {
        region: "us-east-1".parse().unwrap(),
        dns_suffix: None,
        endpoints: vec![endpoint],
        private_api_ids: Vec::new(),
        always_public_ids: Vec::new(),
        always_public_names: Vec::new(),
        private_names: Vec::new(),
        forward_zones: Vec::new(),
        default_upstream: Upstream::Public,
        whole_vpc: false,
        sources: vec![SourceConfig { kind, interval: Duration::from_secs(60), required: true }],
        state_dir: Some(folder.join("state")),
        state_dir_is_set: true,
        extra_roots: Vec::new(),
    }
}

/// Runs the source until its list is on disk.
fn keep(config: &Config) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let discovery = Arc::new(Discovery::new(config.clone()).unwrap());
        let look_up =
            Arc::new(|_, _| -> std::pin::Pin<Box<dyn Future<Output = _> + Send>> { panic!("a file needs none") });
        let tools = discovery.tools(look_up).unwrap();
        let following = tokio::spawn(discovery.follow_sources(tools));
        let state_dir = config.state_dir.clone().unwrap();
        let is_json = |entry: fs::DirEntry| entry.path().extension().is_some_and(|extension| extension == "json");
        while !fs::read_dir(&state_dir).is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(is_json))) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        following.abort();
    });
}

fn lines(ids: usize) -> String {
    (0..ids).map(|number| format!("{}\n", world::id_of(number))).collect()
}

fn array(ids: usize) -> String {
    let quoted: Vec<_> = (0..ids).map(|number| format!("\"{}\"", world::id_of(number))).collect();
    format!("[{}]", quoted.join(",\n"))
}

fn objects(ids: usize) -> String {
    let object = |number: usize| {
        let (id, vpce_id) = (world::id_of(number), number % 3);
        format!(
            "{{\"id\":\"{id}\",\"vpc_endpoint_ids\":[\"vpce-0123456789abcde{vpce_id}0\"],\"region\":\"us-east-1\",\
             \"name\":\"orders-{number}\"}}"
        )
    };
    format!("[{}]", (0..ids).map(object).collect::<Vec<_>>().join(",\n"))
}
