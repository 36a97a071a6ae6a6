//! When addresses are looked up, and what is kept when they cannot be. Time is paused.

use std::collections::VecDeque;
use std::sync::Mutex;

use tokio::sync::mpsc;

use super::*;
use crate::discovery::config::{AddressSource, Config};

type Answer = Result<Found, String>;

fn discovery(addresses: AddressSource) -> Arc<Discovery> {
    Arc::new(Discovery::new(Config::of_test(addresses)).unwrap())
}

fn found(addresses: &[&str], ttl: u64) -> Answer {
    let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
    Ok(Found { addresses, ttl: Duration::from_secs(ttl) })
}

/// No metadata service: nobody listens there.
fn nobody() -> Metadata {
    Metadata { ecs: None, imds: std::net::SocketAddr::from(([127, 0, 0, 1], 1)) }
}

fn silent() -> Answer {
    Err("no answer in time".to_owned())
}

/// Answers A questions from a script, the last for ever, and AAAA with nothing; tells when each was asked.
fn scripted(answers: Vec<Answer>) -> (LookUp, mpsc::UnboundedReceiver<(HostName, tokio::time::Instant)>) {
    let (tell, asked) = mpsc::unbounded_channel();
    let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
    let look_up: LookUp = Arc::new(move |name, family| {
        let answer = match family {
            Family::V6 => found(&[], 0),
            Family::V4 => {
                let _ = tell.send((name, tokio::time::Instant::now()));
                let mut answers = answers.lock().unwrap();
                if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() }
            }
        };
        Box::pin(async move { answer })
    });
    (look_up, asked)
}

/// The seconds between the first `count` look-ups.
async fn pauses(answers: Vec<Answer>, count: usize) -> (Vec<u64>, Addresses) {
    let discovery = discovery(AddressSource::Apex);
    let (look_up, mut asked) = scripted(answers);
    let following = tokio::spawn(Arc::clone(&discovery).follow_endpoints(look_up, nobody(), ()));
    let mut times = Vec::new();
    for _ in 0..=count {
        times.push(asked.recv().await.unwrap().1);
    }
    following.abort();
    let pauses = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    (pauses, discovery.addresses(EndpointIndex(0)))
}

#[tokio::test(start_paused = true)]
async fn addresses_are_looked_up_again_when_their_ttl_ends_but_not_too_often() {
    let answers = vec![found(&["10.0.0.1"], 60), found(&["10.0.0.1"], 0), found(&["10.0.0.2"], 86_400)];
    let (pauses, addresses) = pauses(answers, 3).await;
    assert_eq!(pauses, [60, 5, 300]);
    assert_eq!(addresses.v4[0].to_string(), "10.0.0.2");
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_is_kept_while_the_resolver_fails_and_it_is_asked_ever_less() {
    let (pauses, addresses) = pauses(vec![found(&["10.0.0.1"], 60), silent()], 7).await;
    assert_eq!(pauses, [60, 1, 2, 4, 8, 16, 30]);
    assert_eq!(addresses.v4[0].to_string(), "10.0.0.1");
    assert!(addresses.problem.unwrap().contains("no answer in time"));
}

#[tokio::test(start_paused = true)]
async fn one_attempt_is_enough_to_go_on_whatever_comes_of_it() {
    for answer in [found(&["10.0.0.1"], 60), silent()] {
        let (attempted, done) = tokio::sync::oneshot::channel::<()>();
        let (look_up, _asked) = scripted(vec![answer]);
        let following = tokio::spawn(discovery(AddressSource::Apex).follow_endpoints(look_up, nobody(), attempted));
        assert!(done.await.is_err(), "dropped, not sent");
        following.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn static_addresses_are_never_looked_up() {
    let (attempted, done) = tokio::sync::oneshot::channel::<()>();
    let (look_up, mut asked) = scripted(vec![silent()]);
    let discovery = discovery(AddressSource::Static(vec!["10.0.0.1".parse().unwrap()]));
    let following = tokio::spawn(discovery.follow_endpoints(look_up, nobody(), attempted));
    assert!(done.await.is_err());
    assert!(asked.try_recv().is_err());
    following.abort();
}

#[tokio::test]
async fn the_apex_is_asked_for_or_the_name_given() {
    let vpce: HostName = "vpce-0123456789abcdef0-x.execute-api.us-east-1.vpce.amazonaws.com".parse().unwrap();
    for (source, expected) in [
        (AddressSource::Apex, "execute-api.us-east-1.amazonaws.com".parse().unwrap()),
        (AddressSource::Name(vpce), vpce),
    ] {
        let (look_up, mut asked) = scripted(vec![found(&["10.0.0.1"], 60)]);
        discovery(source).look_up_endpoints(&look_up).await;
        assert_eq!(asked.recv().await.unwrap().0, expected);
    }
}

#[tokio::test]
async fn a_public_apex_is_no_endpoint_but_a_name_the_operator_gave_is_believed() {
    for (source, usable) in
        [(AddressSource::Apex, false), (AddressSource::Name("gate.example.com".parse().unwrap()), true)]
    {
        let (look_up, _asked) = scripted(vec![found(&["52.94.0.1"], 60)]);
        let discovery = discovery(source);
        discovery.look_up_endpoints(&look_up).await;
        let addresses = discovery.addresses(EndpointIndex(0));
        assert_eq!((addresses.is_empty(), addresses.problem.is_none()), (!usable, usable));
    }
}

#[tokio::test]
async fn a_dual_stack_endpoint_keeps_its_globally_routable_ipv6_addresses() {
    let look_up: LookUp = Arc::new(|_, family| {
        let answer = match family {
            Family::V4 => found(&["10.0.0.1"], 60),
            Family::V6 => found(&["2600:1f18:1:2::10"], 60),
        };
        Box::pin(async move { answer })
    });
    let discovery = discovery(AddressSource::Apex);
    discovery.look_up_endpoints(&look_up).await;
    let addresses = discovery.addresses(EndpointIndex(0));
    assert_eq!((addresses.v4.len(), addresses.v6.len(), addresses.problem), (1, 1, None));
}

#[tokio::test]
async fn a_family_that_cannot_be_looked_up_this_time_keeps_its_addresses() {
    let discovery = discovery(AddressSource::Apex);
    let look_up = |v4: Answer| -> LookUp {
        Arc::new(move |_, family| {
            let answer = if family == Family::V4 { v4.clone() } else { found(&["fd00::1"], 60) };
            Box::pin(async move { answer })
        })
    };
    discovery.look_up_endpoints(&look_up(found(&["10.0.0.1"], 60))).await;
    discovery.look_up_endpoints(&look_up(silent())).await;
    let addresses = discovery.addresses(EndpointIndex(0));
    assert_eq!((addresses.v4.len(), addresses.v6.len()), (1, 1));
}

const REGIONAL: &str = "vpce-0123456789abcdef0-abcdefgh.execute-api.us-east-1.vpce.amazonaws.com";

/// A task's metadata on loopback; counts how often it is asked.
async fn task_in(zone: &'static str) -> (Metadata, Arc<std::sync::atomic::AtomicUsize>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let body = format!("{{\"AvailabilityZone\": \"{zone}\"}}");
            let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(reply.as_bytes()).await.unwrap();
        }
    });
    (Metadata { ecs: Some(format!("http://{address}")), ..nobody() }, asked)
}

/// Answers A for the regional name with two addresses, and for its name in us-east-1b as told.
fn by_zone(zonal: impl Fn() -> Answer + Send + Sync + 'static) -> LookUp {
    Arc::new(move |name, family| {
        let answer = match (name.to_string() == REGIONAL, family) {
            (_, Family::V6) => found(&[], 0),
            (true, Family::V4) => found(&["10.0.1.1", "10.0.2.1"], 60),
            (false, Family::V4) => {
                assert!(
                    name.to_string().starts_with("vpce-0123456789abcdef0-abcdefgh-us-east-1b.execute-api."),
                    "{name}"
                );
                zonal()
            }
        };
        Box::pin(async move { answer })
    })
}

async fn near(discovery: &Discovery, number: usize) -> Addresses {
    let mut table = discovery.table();
    let has = |table: &Arc<crate::policy::Table>| table.endpoints()[0].addresses.near_v4 == number;
    timeout(Duration::from_secs(20), table.wait_for(has)).await.expect("the table changes").unwrap();
    discovery.addresses(EndpointIndex(0))
}

#[tokio::test]
async fn the_address_in_the_zone_of_this_host_comes_first_and_the_zone_is_asked_for_once() {
    let (metadata, asked) = task_in("us-east-1b").await;
    let mut config = Config::of_test(AddressSource::Name(REGIONAL.parse().unwrap()));
    config.endpoints.push(config.endpoints[0].clone());
    let discovery = Arc::new(Discovery::new(config).unwrap());
    let look_up = by_zone(|| found(&["10.0.2.1", "10.0.3.1"], 60));
    let following = tokio::spawn(Arc::clone(&discovery).follow_endpoints(look_up, metadata, ()));
    let addresses = near(&discovery, 1).await;
    let order: Vec<_> = addresses.v4.iter().map(ToString::to_string).collect();
    assert_eq!(order, ["10.0.2.1", "10.0.1.1"], "and none that the whole endpoint does not have");
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
    following.abort();
}

#[tokio::test]
async fn a_zonal_name_that_fails_later_changes_nothing() {
    let mut zonal = Zonal::of(&[REGIONAL.replace("abcdefgh.", "abcdefgh-us-east-1b.").parse().unwrap()]);
    let answers = Mutex::new(VecDeque::from([found(&["10.0.2.1"], 60), silent(), found(&[], 0)]));
    let look_up = by_zone(move || answers.lock().unwrap().pop_front().unwrap());
    let known: [&[&str]; 3] = [&["10.0.2.1"], &["10.0.2.1"], &[]];
    for known in known {
        zonal.look_up(&look_up).await;
        assert_eq!(zonal.addresses().iter().map(ToString::to_string).collect::<Vec<_>>(), known);
    }
}

#[tokio::test(start_paused = true)]
async fn a_zonal_name_that_never_answers_keeps_nobody_waiting_for_more_than_a_second() {
    let mut zonal = Zonal::of(&[format!("x.{REGIONAL}").parse().unwrap()]);
    let look_up: LookUp = Arc::new(|_, _| Box::pin(std::future::pending()));
    let begun = tokio::time::Instant::now();
    zonal.look_up(&look_up).await;
    assert_eq!(begun.elapsed().as_secs(), 1);
}

#[tokio::test]
async fn nobody_is_asked_for_the_zone_where_no_endpoint_has_a_name_by_it() {
    for source in [AddressSource::Apex, AddressSource::Name("gate.example.com".parse().unwrap())] {
        let (metadata, asked) = task_in("us-east-1b").await;
        let (look_up, mut names) = scripted(vec![found(&["10.0.0.1"], 60)]);
        let following = tokio::spawn(discovery(source).follow_endpoints(look_up, metadata, ()));
        names.recv().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 0);
        following.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn answers_in_another_order_change_nothing() {
    let discovery = discovery(AddressSource::Apex);
    let (look_up, mut asked) =
        scripted(vec![found(&["10.0.0.1", "10.0.0.2"], 60), found(&["10.0.0.2", "10.0.0.1"], 60)]);
    let following = tokio::spawn(Arc::clone(&discovery).follow_endpoints(look_up, nobody(), ()));
    asked.recv().await.unwrap();
    let mut table = discovery.table();
    table.wait_for(|table| !table.endpoints()[0].addresses.is_empty()).await.unwrap();
    let (generation, fresh_until) = {
        let table = table.borrow();
        (table.generation, table.endpoints()[0].addresses.fresh_until)
    };
    let is_newer = |table: &Arc<crate::policy::Table>| table.endpoints()[0].addresses.fresh_until > fresh_until;
    let after = table.wait_for(is_newer).await.unwrap().clone();
    assert_eq!(after.generation, generation, "chains that lead there are dropped for nothing");
    following.abort();
}

#[tokio::test]
async fn an_address_that_was_near_before_a_reload_is_near_in_every_table_after_it() {
    let (metadata, _) = task_in("us-east-1b").await;
    let config = Config::of_test(AddressSource::Name(REGIONAL.parse().unwrap()));
    let discovery = Arc::new(Discovery::new(config.clone()).unwrap());
    let look_up = by_zone(|| found(&["10.0.2.1"], 60));
    let following = tokio::spawn(Arc::clone(&discovery).follow_endpoints(Arc::clone(&look_up), metadata.clone(), ()));
    near(&discovery, 1).await;
    following.abort();
    let next = Arc::new(discovery.successor(config).unwrap());
    let mut table = next.table();
    let before = table.borrow_and_update().endpoints()[0].addresses.clone();
    assert_eq!(before.near_v4, 1);
    let following = tokio::spawn(Arc::clone(&next).follow_endpoints(look_up, metadata, ()));
    timeout(Duration::from_secs(20), table.changed()).await.expect("it is looked up").unwrap();
    assert_eq!(table.borrow().endpoints()[0].addresses.near_v4, 1, "and the other address is answered first");
    following.abort();
}
