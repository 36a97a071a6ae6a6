//! With `whole_vpc`, the VPC's resolver sends all names of our zones to us: whatever it is asked for there comes back. Here
//! it does so, and counts.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use sidegate::dns::{Config, MAX_OF_CLIENT, Question, Transport, Upstreams};
use sidegate::policy::{Family, HostName, Table, Upstream as Group};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::gate::{Gate, ZONE, config, loopback, table};
use crate::upstream::Upstream;
use crate::wire::{A, AAAA, ANY, Answer, Ask, CNAME_TYPE, HTTPS, TXT_TYPE, a, asked_name, cname, code, data, read};

/// Zones that a second and a third rule lead to us, and no endpoint of ours stands for.
const OTHER_ZONES: [&str; 3] = [
    "execute-api.eu-west-1.amazonaws.com",
    "execute-api.us-east-1.api.aws",
    "execute-api-fips.us-east-1.amazonaws.com",
];

/// The VPC's resolver with Resolver rules: names in the zones go to whoever is set, and what comes of it back.
struct Vpc {
    address: SocketAddr,
    /// Questions for names in the zone.
    in_zone: Arc<AtomicUsize>,
    rule: Arc<Mutex<Option<SocketAddr>>>,
}

impl Vpc {
    async fn start() -> Self {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = front.local_addr().unwrap();
        let (in_zone, rule) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None)));
        let (count, target) = (Arc::clone(&in_zone), Arc::clone(&rule));
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = front.recv_from(&mut buffer).await {
                let (packet, front, count) = (buffer[..length].to_vec(), Arc::clone(&front), Arc::clone(&count));
                let target: Option<SocketAddr> = *target.lock().unwrap();
                tokio::spawn(async move {
                    let name = asked_name(&packet);
                    let reply = if name.ends_with(ZONE) || OTHER_ZONES.iter().any(|zone| name.ends_with(zone)) {
                        count.fetch_add(1, Ordering::SeqCst);
                        let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                        back.send_to(&packet, target.unwrap()).await.unwrap();
                        let mut buffer = [0; 4096];
                        let length = timeout(Duration::from_secs(2), back.recv(&mut buffer)).await;
                        let Ok(Ok(length)) = length else { return };
                        buffer[..length].to_vec()
                    } else if name.starts_with("alias") {
                        // What it would do: follow the alias through the rule. The chain ends with what we are asked.
                        Answer::to(&packet).with(&name, 60, cname(&format!("d-abc.{ZONE}"))).to_wire()
                    } else {
                        Answer::to(&packet).with(&name, 60, a("10.9.9.9")).to_wire()
                    };
                    front.send_to(&reply, from).await.unwrap();
                });
            }
        });
        Self { address, in_zone, rule }
    }

    fn count(&self) -> usize {
        self.in_zone.load(Ordering::SeqCst)
    }
}

fn whole_vpc(public: SocketAddr, vpc: SocketAddr) -> Config {
    let servers = |address: SocketAddr| vec![address.to_string().parse().unwrap()];
    let upstreams =
        Upstreams { public: servers(public), vpc: servers(vpc), zones: vec![Vec::new()], ..Upstreams::default() };
    Config { whole_vpc: true, ..config(&[loopback()], upstreams) }
}

fn of_whole_vpc(default: Group) -> Table {
    let mut table = table(default);
    Arc::get_mut(&mut table.names).unwrap().whole_vpc = true;
    table
}

/// Public DNS on another address than the VPC's resolver.
async fn public() -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.7:0").await.unwrap();
    let (address, count) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let asked = Arc::clone(&count);
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            asked.fetch_add(1, Ordering::SeqCst);
            let query = &buffer[..length];
            let reply = Answer::to(query).with(&asked_name(query), 60, a("192.0.2.1")).to_wire();
            socket.send_to(&reply, from).await.unwrap();
        }
    });
    (address, count)
}

#[tokio::test]
async fn no_name_of_our_zone_is_ever_asked_of_the_vpcs_resolver() {
    for default in [Group::Vpc, Group::Public] {
        let (vpc, (public, _)) = (Vpc::start().await, public().await);
        let gate = Gate::with(whole_vpc(public, vpc.address), of_whole_vpc(default));
        *vpc.rule.lock().unwrap() = Some(gate.address);
        let names = ["priv1", "pub1", "d-abc", "x.priv1", "pub1-vpce-0123456789abcdef0", "a.b.c", "_odd"];
        let names = names.iter().map(|label| format!("{label}.{ZONE}")).chain([ZONE.to_owned(), ZONE.to_uppercase()]);
        let names: Vec<String> =
            names.chain(["alias.example.com".to_owned(), "alias2.corp.example".to_owned()]).collect();
        let of_others = OTHER_ZONES.iter().flat_map(|zone| [zone.to_string(), format!("a1.{zone}")]);
        let names: Vec<String> = names.into_iter().chain(of_others).collect();
        for name in &names {
            for qtype in [A, AAAA, HTTPS, TXT_TYPE, CNAME_TYPE, ANY] {
                gate.ask(&Ask::new(name, qtype)).await;
            }
        }
        assert_eq!(vpc.count(), 0, "default {default:?}");
        assert_eq!(data(&gate.ask(&Ask::new(&format!("pub1.{ZONE}"), A)).await), ["192.0.2.1"]);
        for zone in OTHER_ZONES {
            assert_eq!(data(&gate.ask(&Ask::new(&format!("a1.{zone}"), A)).await), ["192.0.2.1"], "{zone}");
        }
        // And as the VPC's clients ask: by its resolver, whose rule leads to us.
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for (label, expected) in [("priv1", "10.0.0.1"), ("pub2", "192.0.2.1")] {
            client.send_to(&Ask::new(&format!("{label}.{ZONE}"), A).to_wire(), vpc.address).await.unwrap();
            let mut buffer = [0; 4096];
            let length = client.recv(&mut buffer).await.unwrap();
            assert_eq!(data(&read(&buffer[..length])), [expected]);
        }
        assert_eq!(vpc.count(), 2, "its clients' questions and no other");
    }
}

#[tokio::test]
async fn our_own_look_ups_and_names_of_servers_do_not_ask_it_either() {
    let (vpc, (public, _)) = (Vpc::start().await, public().await);
    let mut config = whole_vpc(public, vpc.address);
    config.upstreams.public = vec![format!("https://api.{ZONE}/dns-query").parse().unwrap()];
    let gate = Gate::with(config, table(Group::Vpc));
    *vpc.rule.lock().unwrap() = Some(gate.address);
    let resolver = Arc::clone(&gate.plane.service().borrow().resolver);
    let of_others = OTHER_ZONES.iter().map(|zone| format!("lists.{zone}"));
    for name in [ZONE.to_owned(), format!("lists.{ZONE}")].into_iter().chain(of_others) {
        let name: HostName = name.parse().unwrap();
        let error = resolver.look_up(&Question::for_addresses(name, Family::V4), Group::Vpc).await.unwrap_err();
        assert!(error.to_string().contains("comes back to us"), "{error}");
        let error = resolver.addresses(&name, Family::V4, Group::Vpc).await.unwrap_err();
        assert!(error.to_string().contains("comes back to us"), "{error}");
    }
    let reply = gate.ask(&Ask::new("www.example.org", A)).await;
    assert_eq!(data(&reply), ["10.9.9.9"], "other names go to it");
    assert_eq!(code(&gate.ask(&Ask::new(&format!("pub1.{ZONE}"), A)).await), ResponseCode::ServFail);
    assert_eq!(vpc.count(), 0);
}

#[tokio::test]
async fn without_it_a_loop_is_broken_when_it_runs() {
    let (vpc, (public, _)) = (Vpc::start().await, public().await);
    let config = Config { whole_vpc: false, ..whole_vpc(public, vpc.address) };
    let gate = Gate::with(config, table(Group::Vpc));
    *vpc.rule.lock().unwrap() = Some(gate.address);
    let resolver = Arc::clone(&gate.plane.service().borrow().resolver);
    let name: HostName = ZONE.parse().unwrap();
    let _ = resolver.look_up(&Question::for_addresses(name, Family::V4), Group::Vpc).await;
    assert!(vpc.count() > 0, "the fake is one that whoever asks it is caught by");
}

#[tokio::test]
async fn a_public_server_that_is_the_vpcs_resolver_is_refused_at_start_and_at_a_reload() {
    let vpc = Upstream::silent().await.address;
    let servers = |public: &str| Upstreams {
        public: vec![public.parse().unwrap()],
        vpc: vec![vpc.to_string().parse().unwrap()],
        ..Upstreams::default()
    };
    for public in
        ["127.0.0.1:5399", "tcp://127.0.0.1", "169.254.169.253", "tls://[fd00:ec2::253]#x.example", "10.0.0.2"]
    {
        let config = |whole_vpc| Config { whole_vpc, ..config(&[loopback()], servers(public)) };
        let words = Gate::try_with(config(true), table(Group::Vpc)).err().expect("refused").to_string();
        assert!(
            words.contains("upstream.public or an [[upstream.zone]]") && words.contains("outside the VPC"),
            "{words}"
        );
        let mut gate = Gate::with(config(false), table(Group::Vpc));
        assert!(gate.reload(config(true)).await.is_err(), "{public}");
    }
    // The same of the servers of a zone that has names of API Gateway; another zone may ask whom it likes.
    for (zone, is_refused) in [("amazonaws.com", true), ("corp.internal", false)] {
        let (zones, zone_names) = (vec![vec![vpc.to_string().parse().unwrap()]], vec![zone.parse().unwrap()]);
        let upstreams = Upstreams { zones, zone_names, ..servers("127.0.0.2:5399") };
        let config = Config { whole_vpc: true, ..config(&[loopback()], upstreams) };
        assert_eq!(Gate::try_with(config, table(Group::Vpc)).is_err(), is_refused, "{zone}");
    }
}

/// How many of these queries of one client would be waited for.
fn waiting(gate: &Gate, client: &str, count: usize) -> (usize, Vec<sidegate::dns::Pending>) {
    let service = Arc::clone(&gate.plane.service().borrow());
    let (table, mut out) = (service.resolver.table(), Vec::new());
    let client = SocketAddr::new(client.parse().unwrap(), 4000);
    let pending: Vec<_> = (0..count)
        .filter_map(|number| {
            let query = Ask::new(&format!("n{number}.example.com"), A).to_wire();
            service.handle(&query, client, &table, std::time::Instant::now(), Transport::Udp, &mut out)
        })
        .collect();
    (pending.len(), pending)
}

#[tokio::test]
async fn one_client_of_many_gets_a_share_and_one_that_asks_for_many_all() {
    let (vpc, (public, _)) = (Vpc::start().await, public().await);
    let of_many = Gate::with(Config { whole_vpc: false, ..whole_vpc(public, vpc.address) }, table(Group::Public));
    let for_many = Gate::with(whole_vpc(public, vpc.address), table(Group::Public));
    let (most, held) = waiting(&of_many, "10.1.2.3", 2 * MAX_OF_CLIENT);
    assert_eq!(most, MAX_OF_CLIENT);
    assert_eq!(waiting(&of_many, "10.1.2.4", 10).0, 10, "others are not touched");
    assert_eq!(waiting(&of_many, "127.0.0.1", 2 * MAX_OF_CLIENT).0, 2 * MAX_OF_CLIENT);
    let greedy = of_many.plane.service().borrow().counters.greedy.load(Ordering::Relaxed);
    assert_eq!(greedy as usize, MAX_OF_CLIENT);
    drop(held);
    assert_eq!(waiting(&of_many, "10.1.2.3", 10).0, 10);
    assert_eq!(waiting(&for_many, "10.1.2.3", 2 * MAX_OF_CLIENT).0, 2 * MAX_OF_CLIENT);
}

#[tokio::test]
async fn many_clients_of_the_resolver_are_served_through_its_one_address() {
    let (vpc, (public, _)) = (Vpc::start().await, public().await);
    let gate = Gate::with(whole_vpc(public, vpc.address), table(Group::Vpc));
    *vpc.rule.lock().unwrap() = Some(gate.address);
    let mut clients = JoinSet::new();
    for number in 0..200 {
        let address = vpc.address;
        clients.spawn(async move {
            let query = Ask::new(&format!("p{number}.{ZONE}"), A).to_wire();
            data(&read(&crate::gate::ask_udp(address, &query).await))
        });
    }
    while let Some(answer) = clients.join_next().await {
        assert_eq!(answer.unwrap(), ["192.0.2.1"]);
    }
    assert_eq!(vpc.count(), 200);
}
