//! Which connections are kept, for how long, and how many there may be.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::super::source::halves;
use super::*;
use crate::forward::destination::Destination;
use crate::policy::{Addresses, Endpoint, Rule};

fn permit(host: &str, way: Way) -> Permit {
    let destination = Destination::of_connect(&format!("{host}:443")).unwrap();
    Permit { destination, rule: Rule::Default, way, ours: true, may_stay_inside: false, learnable: false }
}

fn key(host: &str) -> Key {
    Key::new(&permit(host, Way::Upstream(Upstream::Public)), Protocols::Http1)
}

/// Opens a connection as if there were none.
async fn open(pool: &Pool, key: &Key) -> (Connection, DuplexStream) {
    let slot = pool.slot(key).await.unwrap();
    let (near, far) = tokio::io::duplex(64);
    let (source, writer) = halves(near);
    (Connection { source, writer, ticket: pool.ticket(key.clone(), "127.0.0.1:1".parse().unwrap(), slot) }, far)
}

fn give_back(Connection { source, writer, ticket }: Connection) {
    ticket.give_back(source, writer);
}

async fn take(pool: &Pool, key: &Key) -> Option<Connection> {
    pool.idle(key, pool.slot(key).await.unwrap()).ok()
}

async fn is_closed(far: &mut DuplexStream) -> bool {
    matches!(far.read(&mut [0]).await, Ok(0))
}

#[tokio::test(start_paused = true)]
async fn the_connection_that_waited_least_is_used_first() {
    let pool = Pool::new();
    let ((first, _first), (second, mut far)) = (open(&pool, &key("a")).await, open(&pool, &key("a")).await);
    give_back(first);
    give_back(second);
    take(&pool, &key("a")).await.unwrap().writer.write_all(b"x").await.unwrap();
    assert_eq!(far.read_u8().await.unwrap(), b'x');
}

#[tokio::test(start_paused = true)]
async fn a_connection_belongs_to_its_name_its_way_and_its_protocols() {
    let endpoint = |label: &str| {
        let vpce_id = Some(label.parse().unwrap());
        let region = "us-east-1".parse().unwrap();
        Way::Endpoint(Arc::new(Endpoint { region, vpce_id, addresses: Addresses::default(), port: 443 }))
    };
    let keys = [
        key("a"),
        key("b"),
        Key::new(&permit("a", Way::Upstream(Upstream::Vpc)), Protocols::Http1),
        Key::new(&permit("a", Way::Upstream(Upstream::Public)), Protocols::Any),
        Key::new(&permit("a", endpoint("vpce-0a1b2c3d4e5f60718")), Protocols::Http1),
        Key::new(&permit("a", endpoint("vpce-0a1b2c3d4e5f60719")), Protocols::Http1),
    ];
    for (at, own) in keys.iter().enumerate() {
        let pool = Pool::new();
        let (connection, _far) = open(&pool, own).await;
        give_back(connection);
        for other in keys.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, key)| key) {
            assert!(take(&pool, other).await.is_none(), "{own:?} for {other:?}");
        }
        assert!(take(&pool, own).await.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_too_long_is_closed_within_seconds_though_nobody_asks() {
    let pool = Pool::new();
    let (connection, mut far) = open(&pool, &key("a")).await;
    give_back(connection);
    let start = Instant::now();
    assert!(is_closed(&mut far).await);
    assert!(start.elapsed() >= IDLE && start.elapsed() < IDLE + 2 * SWEEP, "{:?}", start.elapsed());
    tokio::time::sleep(2 * SWEEP).await;
    assert!(pool.shared.hosts().is_empty(), "nothing is kept for a host that nobody asks for");
}

#[tokio::test(start_paused = true)]
async fn no_connection_gets_a_request_once_it_is_old() {
    let pool = Pool::new();
    let (mut connection, _far) = open(&pool, &key("a")).await;
    let start = Instant::now();
    while start.elapsed() < AGE - Duration::from_secs(60) {
        give_back(connection);
        tokio::time::sleep(Duration::from_secs(59)).await;
        connection = take(&pool, &key("a")).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    give_back(connection);
    assert!(take(&pool, &key("a")).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_ended_or_written_to_is_thrown_away() {
    let pool = Pool::new();
    let (ended, far) = open(&pool, &key("a")).await;
    let (written, mut other) = open(&pool, &key("a")).await;
    let (good, _far) = open(&pool, &key("a")).await;
    give_back(good);
    give_back(ended);
    give_back(written);
    drop(far);
    other.write_all(b"HTTP/1.1 408").await.unwrap();
    assert!(take(&pool, &key("a")).await.is_some());
    assert!(take(&pool, &key("a")).await.is_none());
    assert!(is_closed(&mut other).await);
}

#[tokio::test(start_paused = true)]
async fn connections_to_a_host_are_bounded_and_waiting_for_one_is_too() {
    let pool = Pool::new();
    let mut open_ones = Vec::new();
    for _ in 0..PER_HOST {
        open_ones.push(open(&pool, &key("a")).await);
    }
    assert_eq!(pool.slot(&key("a")).await.unwrap_err().cause, Cause::Overloaded);
    assert!(pool.slot(&key("b")).await.is_ok(), "another host is not kept waiting");
    let (connection, _far) = open_ones.pop().unwrap();
    let key = key("a");
    let (waited, ()) = tokio::join!(take(&pool, &key), async { give_back(connection) });
    assert!(waited.is_some(), "what becomes free goes to who waits");
}

#[tokio::test(start_paused = true)]
async fn connections_in_all_are_bounded_and_the_longest_idle_makes_room() {
    let pool = Pool::new();
    let hosts: Vec<_> = (0..IN_ALL / PER_HOST + 1).map(|host| key(&format!("h{host}"))).collect();
    let (idle, mut longest) = open(&pool, &hosts[0]).await;
    give_back(idle);
    let mut busy = Vec::new();
    for host in &hosts[1..] {
        for _ in 0..PER_HOST {
            busy.push(open(&pool, host).await);
        }
    }
    assert!(is_closed(&mut longest).await);
    assert_eq!(pool.slot(&hosts[0]).await.unwrap_err().cause, Cause::Overloaded);
}

#[tokio::test(start_paused = true)]
async fn what_waits_ends_with_the_pool_and_what_is_in_use_does_not_come_back() {
    let pool = Pool::new();
    let (idle, mut far) = open(&pool, &key("a")).await;
    let (busy, mut other) = open(&pool, &key("a")).await;
    give_back(idle);
    drop(pool);
    assert!(is_closed(&mut far).await);
    give_back(busy);
    assert!(is_closed(&mut other).await);
}

#[tokio::test]
async fn a_task_that_has_done_much_still_sees_that_connections_have_ended() {
    let pool = Pool::new();
    let (mut opened, mut fars) = (Vec::new(), Vec::new());
    for _ in 0..PER_HOST {
        let (connection, far) = open(&pool, &key("a")).await;
        opened.push(connection);
        fars.push(far);
    }
    for connection in opened {
        give_back(connection);
    }
    assert!(fars.pop().is_some() && pool.shared.hosts()[&key("a")].idle.len() == PER_HOST);
    fars.clear();
    tokio::task::yield_now().await;
    assert!(take(&pool, &key("a")).await.is_none(), "not one of them is there any more");
}

#[tokio::test(start_paused = true)]
async fn a_host_has_one_bound_whatever_it_speaks() {
    let pool = Pool::new();
    let any = Key { protocols: Protocols::Any, ..key("a") };
    let mut slots = Vec::new();
    for _ in 0..PER_HOST {
        slots.push(pool.slot(&key("a")).await.unwrap());
    }
    assert_eq!(pool.slot(&any).await.unwrap_err().cause, Cause::Overloaded);
    assert!(pool.slot(&key("b")).await.is_ok());
}
