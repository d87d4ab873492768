//! What `explain` and `check` say of an address is what happens: a client in another namespace asks, over TCP and UDP, IPv4 and
//! IPv6, under rules and routes of every kind. Needs root.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Receiver, bind, dial_with, here, patient, snapshot, state, up, who};
use inlet::rules::{Packet, Protocol};
use inlet::{Checker, Explanation, Mute, Reach};
use inlet_testkit::{Dial, End, Namespace, Netns, World, veth};

/// What is steered, and the addresses of host and client on their network.
const STEERED: [&str; 2] = ["203.0.113.0/24", "2001:db8:9::/64"];
const HOST: [&str; 2] = ["192.0.2.241/24", "2001:db8:1::f1/64"];
const CLIENT: [&str; 2] = ["192.0.2.2/24", "2001:db8:1::2/64"];
/// An address that is local in every case: what was sent to others before it has been dealt with when it answers.
const CONTROL: &str = "192.0.2.241:99";
/// How long one waits for an answer that should not come. What was delivered is known from the counters, not from the time.
const SHORT: Duration = Duration::from_millis(200);

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is delivered, and the answer arrives.
    Answered,
    /// It is delivered, and no answer leaves.
    Mute,
    /// It is not delivered.
    Lost,
    /// Datagrams are delivered and answered. The hook sees a SYN, and the kernel makes no connection.
    UdpOnly,
    /// The hook may see it, and no socket gets it.
    Several,
}

use Fate::{Answered, Lost, Mute as Silent, Several, UdpOnly};

/// Rules and routes, and what becomes of packets.
struct Case {
    name: &'static str,
    /// Arguments of `ip`, or a setting and its value.
    setup: &'static [&'static str],
    asks: &'static [(&'static str, Fate)],
    /// What `check` says of the prefix.
    check: &'static [&'static str],
}

const NOT_LOCAL: &str = "prefix-not-local";
const FOR_SOME: &str = "prefix-local-for-some";
const CANNOT_ANSWER: &str = "prefix-cannot-answer";

/// The host, with an instance and a receiver, and the client.
struct Scene {
    world: World,
    client: Namespace,
    _receivers: [Receiver; 2],
}

impl Scene {
    fn new() -> Option<Self> {
        let world = World::new()?;
        for name in ["net/ipv4/conf/all/rp_filter", "net/ipv4/conf/default/rp_filter"] {
            world.sysctl(name, "0").unwrap();
        }
        for name in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            world.sysctl(name, "1").unwrap();
        }
        let client = Netns::unentered().unwrap();
        let end = |namespace, name, addresses| End { namespace, name, addresses };
        veth(end(&world, "v1", &HOST), end(&client, "v0", &CLIENT)).unwrap();
        client.ip(&["route", "add", "default", "via", "192.0.2.241"]).unwrap();
        client.ip(&["-6", "route", "add", "default", "via", "2001:db8:1::f1"]).unwrap();
        client.ip(&["addr", "add", "198.51.100.77/32", "dev", "lo"]).unwrap();
        let mut instance = up(&world);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            STEERED.iter().for_each(|prefix| bind(&mut instance, "web", protocol, prefix, "any"));
            bind(&mut instance, "control", protocol, "192.0.2.241", "99");
        }
        let receivers = ["web", "control"].map(|name| Receiver::of(&mut instance, name));
        Some(Self { world, client, _receivers: receivers })
    }

    fn set_up(&self, case: &Case) {
        for line in case.setup {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                [name, value] if name.starts_with("net/") => self.world.sysctl(name, value).unwrap(),
                _ => drop(self.world.ip(&words).unwrap_or_else(|error| panic!("{}: {error}", case.name))),
            }
        }
    }

    /// What becomes of a packet from the client, by asking: whether it was delivered, and whether the answer arrived.
    fn ask(&self, protocol: Protocol, target: SocketAddr, source: Option<IpAddr>, how: Dial) -> (bool, bool) {
        let how = source.map_or(how.clone(), |source| how.source(source));
        let before = state(&self.world, "web").counters.steered;
        let answer = self.client.enter(|| who(&dial_with(protocol, target, &how)));
        // What comes later on the same way is there, so what came before it was dealt with.
        let control = self.client.enter(|| who(&dial_with(Protocol::Tcp, CONTROL.parse().unwrap(), &patient())));
        assert_eq!(control, "control");
        (state(&self.world, "web").counters.steered > before, answer == "web")
    }

    fn explain(&self, protocol: Protocol, target: SocketAddr, source: Option<IpAddr>, iface: bool) -> Explanation {
        let any: IpAddr = if target.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let index = if iface { self.ifindex() } else { 0 };
        let remote = SocketAddr::new(source.unwrap_or(any), if source.is_some() { 40_000 } else { 0 });
        snapshot(&self.world)
            .explain(&Packet { protocol, local: target, remote, ifindex: index, mark: Some(0) })
            .unwrap()
    }

    /// The index of the host's interface to the client.
    fn ifindex(&self) -> u32 {
        let said = self.world.ip(&["-o", "link", "show", "dev", "v1"]).unwrap();
        said.split(':').next().unwrap().parse().unwrap()
    }

    /// What is wrong about a case.
    fn run(&self, case: &Case) -> Vec<String> {
        self.set_up(case);
        let all = case.asks.iter().flat_map(|ask| [Protocol::Tcp, Protocol::Udp].map(|protocol| (protocol, ask)));
        let asked = all.flat_map(|(protocol, (addr, fate))| self.compare(case, protocol, addr, *fate));
        asked.chain(self.compare_check(case)).collect()
    }

    fn compare(&self, case: &Case, protocol: Protocol, addr: &str, fate: Fate) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut expect = |holds: bool, what: &dyn std::fmt::Debug| {
            if !holds {
                wrong.push(format!("{}: {protocol} {addr} is to be {fate:?}: {what:?}", case.name));
            }
        };
        // `ADDRESS from SOURCE` is asked from another address of the client.
        let (to, from) = addr.split_once(" from ").map_or((addr, None), |(to, from)| (to, Some(from)));
        let target = SocketAddr::new(to.parse().unwrap(), 7);
        let own = if target.is_ipv4() { "192.0.2.2" } else { "2001:db8:1::2" };
        let source: IpAddr = from.unwrap_or(own).parse().unwrap();
        let (delivered, answered) = match (fate, protocol) {
            (Answered, _) | (UdpOnly, Protocol::Udp) => (true, true),
            (Silent, _) => (true, false),
            (Lost | Several, _) | (UdpOnly, Protocol::Tcp) => (false, false),
        };
        let said = self.explain(protocol, target, Some(source), true).routing;
        let says = (said.reach.is_local(), said.reach.is_local() && said.mute.is_none());
        expect(says == (delivered, answered), &("explain says", &said));
        expect(said.model.is_none(), &("model and kernel differ", &said));
        expect(said.asked && said.unknown.is_empty(), &("not asked, or unknown", &said));
        let how = if answered { patient() } else { Dial::new().timeout(SHORT) };
        let happens = self.ask(protocol, target, from.map(|from| from.parse().unwrap()), how);
        // What the kernel does not connect or deliver in the end the hook may see even so.
        let seen = fate == Several || fate == UdpOnly || happens.0 == delivered;
        expect(seen && happens.1 == answered, &("delivered and answered are", happens));
        // Who asks without a source and an interface is told when they matter.
        let plain = self.explain(protocol, target, None, false).routing;
        let same = plain.reach.is_local() == said.reach.is_local();
        let filtered = matches!(&said.reach, Reach::Dropped(by) if by.contains("rp_filter"));
        expect(same || !plain.unless.is_empty() || filtered, &("without source and interface", &plain));
        wrong
    }

    fn compare_check(&self, case: &Case) -> Option<String> {
        let found = Checker::new(here(&self.world)).check(None).unwrap();
        let of_case =
            |text: &str| if case.asks[0].0.contains(':') { text.contains(":9:") } else { text.contains("203.") };
        let routes = found.findings.iter().filter(|it| it.code.starts_with("prefix-") && of_case(&it.what));
        let codes: BTreeSet<&str> = routes.map(|it| it.code).collect();
        let expected: BTreeSet<&str> = case.check.iter().copied().collect();
        (codes != expected).then(|| format!("{}: check finds {codes:?}, not {expected:?}", case.name))
    }
}

/// Each case has namespaces of its own, and a few run at a time.
fn all(cases: &[Case]) {
    if !inlet_testkit::require_root() {
        return;
    }
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let scene = Scene::new().unwrap();
                    wrong.lock().unwrap().extend(scene.run(case));
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn routes_of_ipv4() {
    all(&[
        Case { name: "no route", setup: &[], asks: &[("203.0.113.5", Lost)], check: &[NOT_LOCAL] },
        Case {
            name: "by lo",
            setup: &["route add local 203.0.113.0/24 dev lo"],
            asks: &[("203.0.113.5", Answered)],
            check: &[],
        },
        Case {
            name: "by another interface",
            setup: &["route add local 203.0.113.0/24 dev v1"],
            asks: &[("203.0.113.5", Answered)],
            check: &[],
        },
        Case {
            name: "several routes",
            setup: &[
                "route add local 203.0.113.0/25 dev lo",
                "route add local 203.0.113.128/25 dev v1",
                "route add local 203.0.113.0/26 dev v1",
            ],
            asks: &[("203.0.113.5", Answered), ("203.0.113.200", Answered)],
            check: &[],
        },
        Case {
            name: "half of it",
            setup: &["route add local 203.0.113.0/25 dev lo"],
            asks: &[("203.0.113.5", Answered), ("203.0.113.200", Lost)],
            check: &[NOT_LOCAL],
        },
        Case {
            name: "in table main, which is one with local",
            setup: &["route add local 203.0.113.0/24 dev lo table main"],
            asks: &[("203.0.113.5", Answered)],
            check: &[],
        },
        Case {
            name: "a longer prefix of table main, which is one with local",
            setup: &["route add local 203.0.113.0/24 dev lo", "route add 203.0.113.64/26 via 192.0.2.2"],
            asks: &[("203.0.113.5", Answered), ("203.0.113.70", Lost)],
            check: &[NOT_LOCAL],
        },
        Case {
            name: "a longer prefix of table main, after a rule came and went",
            setup: &[
                "rule add pref 40000 lookup 77",
                "rule del pref 40000",
                "route add local 203.0.113.0/24 dev lo",
                "route add 203.0.113.64/26 via 192.0.2.2",
            ],
            asks: &[("203.0.113.5", Answered), ("203.0.113.70", Answered)],
            check: &[],
        },
        Case {
            name: "in table main, after a rule came and went",
            setup: &[
                "rule add pref 40000 lookup 77",
                "rule del pref 40000",
                "route add local 203.0.113.0/24 dev lo table main",
            ],
            asks: &[("203.0.113.5", Silent)],
            check: &[CANNOT_ANSWER],
        },
        Case {
            name: "blackhole, throw, prohibit and unreachable inside",
            setup: &[
                "route add local 203.0.113.0/24 dev lo",
                "route add blackhole 203.0.113.128/26 table local",
                "route add throw 203.0.113.64/26 table local",
                "route add prohibit 203.0.113.192/27 table local",
                "route add unreachable 203.0.113.224/27 table local",
            ],
            asks: &[
                ("203.0.113.5", Answered),
                ("203.0.113.70", Lost),
                ("203.0.113.130", Lost),
                ("203.0.113.200", Lost),
                ("203.0.113.230", Lost),
            ],
            check: &[NOT_LOCAL],
        },
        Case {
            name: "an address on lo with its network",
            setup: &["addr add 203.0.113.1/24 dev lo"],
            asks: &[("203.0.113.1", Answered), ("203.0.113.5", Answered), ("203.0.113.255", Several)],
            check: &[],
        },
        Case {
            name: "a tos",
            setup: &["route add local 203.0.113.0/24 dev lo tos 0x10"],
            asks: &[("203.0.113.5", Lost)],
            check: &[FOR_SOME, CANNOT_ANSWER],
        },
        Case {
            name: "a tos beside none",
            setup: &[
                "route add local 203.0.113.0/24 dev lo",
                "route add blackhole 203.0.113.0/24 tos 0x10 table local",
            ],
            asks: &[("203.0.113.5", Answered)],
            check: &[FOR_SOME],
        },
        Case {
            name: "metrics",
            setup: &[
                "route add local 203.0.113.0/24 dev lo metric 20",
                "route add blackhole 203.0.113.0/24 table local metric 10",
            ],
            asks: &[("203.0.113.5", Lost)],
            check: &[NOT_LOCAL],
        },
        Case {
            name: "anycast, which IPv4 does not deliver",
            setup: &["route add anycast 203.0.113.0/24 dev lo table local"],
            asks: &[("203.0.113.5", Lost)],
            check: &[NOT_LOCAL],
        },
        Case {
            name: "rp_filter",
            setup: &[
                "route add local 203.0.113.0/24 dev lo",
                "link add d0 type veth peer name d1",
                "link set d1 up",
                "link set d0 up",
                "route add 198.51.100.0/24 dev d0",
                "net/ipv4/conf/v1/rp_filter 1",
            ],
            asks: &[("203.0.113.5", Answered), ("203.0.113.5 from 198.51.100.77", Lost)],
            check: &[],
        },
        Case {
            name: "no way back",
            setup: &["route add local 203.0.113.0/24 dev lo", "route add blackhole 198.51.100.0/24"],
            asks: &[("203.0.113.5 from 198.51.100.77", Silent)],
            check: &[],
        },
    ]);
}

#[test]
fn policy_routing_of_ipv4() {
    all(&[
        Case {
            name: "another table by destination",
            setup: &["route add local 203.0.113.0/24 dev lo table 100", "rule add to 203.0.113.0/24 lookup 100"],
            asks: &[("203.0.113.5", Silent)],
            check: &[CANNOT_ANSWER],
        },
        Case {
            name: "by mark",
            setup: &["route add local default dev lo table 100", "rule add fwmark 1 lookup 100"],
            asks: &[("203.0.113.5", Lost)],
            check: &[FOR_SOME, CANNOT_ANSWER],
        },
        Case {
            name: "by interface",
            setup: &["route add local 203.0.113.0/24 dev lo table 100", "rule add iif v1 lookup 100"],
            asks: &[("203.0.113.5", Silent)],
            check: &[FOR_SOME, CANNOT_ANSWER],
        },
        Case {
            name: "by another interface",
            setup: &["route add local 203.0.113.0/24 dev lo table 100", "rule add iif lo lookup 100"],
            asks: &[("203.0.113.5", Lost)],
            check: &[FOR_SOME, CANNOT_ANSWER],
        },
        Case {
            name: "by source",
            setup: &[
                "route add blackhole 203.0.113.0/25 table 100",
                "route add local 203.0.113.0/24 dev lo",
                "rule add pref 500 from 192.0.2.2 lookup 100",
                "rule add pref 1000 lookup local",
                "rule del pref 0",
            ],
            asks: &[("203.0.113.5", Lost), ("203.0.113.200", Answered)],
            check: &[FOR_SOME],
        },
        Case {
            name: "the local table behind another",
            setup: &[
                "route add local 203.0.113.0/24 dev lo",
                "route add 203.0.113.0/25 via 192.0.2.2 table 50",
                "rule add pref 1000 lookup local",
                "rule del pref 0",
                "rule add pref 500 lookup 50",
            ],
            asks: &[("203.0.113.5", Lost), ("203.0.113.200", Answered)],
            check: &[NOT_LOCAL],
        },
        Case {
            name: "prohibit, not, goto and suppress",
            setup: &[
                "route add local 203.0.113.0/24 dev lo",
                "route add local 203.0.113.0/24 dev lo table 60",
                "rule add pref 1000 lookup local",
                "rule del pref 0",
                "rule add pref 400 to 203.0.113.0/28 prohibit",
                "rule add pref 500 not to 203.0.113.0/25 goto 1000",
                "rule add pref 510 to 203.0.113.32/28 lookup 60 suppress_prefixlength 24",
                "rule add pref 520 to 203.0.113.32/28 blackhole",
            ],
            asks: &[
                ("203.0.113.5", Lost),
                ("203.0.113.20", Answered),
                ("203.0.113.40", Lost),
                ("203.0.113.200", Answered),
            ],
            check: &[NOT_LOCAL],
        },
        Case {
            name: "ports and protocol",
            setup: &[
                "route add local 203.0.113.0/24 dev lo",
                "rule add pref 1000 lookup local",
                "rule del pref 0",
                "rule add pref 500 to 203.0.113.0/25 dport 7 blackhole",
                "rule add pref 501 ipproto 1 blackhole",
            ],
            asks: &[("203.0.113.5", Lost), ("203.0.113.200", Answered)],
            check: &[FOR_SOME],
        },
    ]);
}

#[test]
fn routes_of_ipv6() {
    all(&[
        Case { name: "no route", setup: &[], asks: &[("2001:db8:9::5", Lost)], check: &[NOT_LOCAL] },
        Case {
            name: "by lo",
            setup: &["-6 route add local 2001:db8:9::/64 dev lo"],
            asks: &[("2001:db8:9::5", Answered)],
            check: &[],
        },
        Case {
            name: "an address on lo with its network",
            setup: &["-6 addr add 2001:db8:9::1/64 dev lo nodad"],
            asks: &[("2001:db8:9::1", Answered), ("2001:db8:9::5", Lost), ("2001:db8:9::", UdpOnly)],
            check: &[NOT_LOCAL],
        },
        Case {
            name: "in table main with a metric",
            setup: &["-6 route add local 2001:db8:9::/64 dev lo table main metric 5"],
            asks: &[("2001:db8:9::5", Answered)],
            check: &[],
        },
        Case {
            name: "anycast",
            setup: &["-6 route add anycast 2001:db8:9::5/128 dev v1 table local"],
            asks: &[("2001:db8:9::5", UdpOnly)],
            check: &[NOT_LOCAL],
        },
        Case {
            name: "anycast by lo, which the kernel makes a route that refuses",
            setup: &["-6 route add anycast 2001:db8:9::5/128 dev lo table local"],
            asks: &[("2001:db8:9::5", Lost)],
            check: &[NOT_LOCAL],
        },
        Case {
            name: "another table",
            setup: &[
                "-6 route add local 2001:db8:9::/64 dev lo table 100",
                "-6 rule add to 2001:db8:9::/64 lookup 100",
            ],
            asks: &[("2001:db8:9::5", Answered)],
            check: &[],
        },
        Case {
            name: "by interface",
            setup: &["-6 route add local 2001:db8:9::/64 dev lo table 100", "-6 rule add iif v1 lookup 100"],
            asks: &[("2001:db8:9::5", Answered)],
            check: &[FOR_SOME],
        },
        Case {
            name: "blackhole, throw and unicast inside",
            setup: &[
                "-6 route add local 2001:db8:9::/64 dev lo",
                "-6 route add blackhole 2001:db8:9:0:8000::/65 table local",
                "-6 route add throw 2001:db8:9:0:4000::/66 table local",
                "-6 route add 2001:db8:9::100/120 via 2001:db8:1::2",
            ],
            asks: &[
                ("2001:db8:9::5", Answered),
                ("2001:db8:9::105", Answered),
                ("2001:db8:9:0:4000::1", Lost),
                ("2001:db8:9:0:8000::1", Lost),
            ],
            check: &[NOT_LOCAL],
        },
        Case {
            name: "prohibit by rule, after the local table and before it",
            setup: &[
                "-6 route add local 2001:db8:9::/64 dev lo",
                "-6 rule add pref 100 to 2001:db8:9::/65 prohibit",
                "-6 rule add pref 1000 lookup local",
                "-6 rule del pref 0",
            ],
            asks: &[("2001:db8:9::5", Lost), ("2001:db8:9:0:8000::1", Answered)],
            check: &[NOT_LOCAL],
        },
    ]);
}

/// The kinds of what is said, so that nothing is said by chance.
#[test]
fn what_is_said_names_the_cause() {
    let Some(scene) = Scene::new() else { return };
    scene.world.ip(&["route", "add", "local", "203.0.113.0/24", "dev", "lo", "table", "100"]).unwrap();
    scene.world.ip(&["rule", "add", "to", "203.0.113.0/24", "lookup", "100"]).unwrap();
    scene.world.ip(&["route", "add", "blackhole", "203.0.113.64/26", "table", "100"]).unwrap();
    let of = |addr: &str| {
        let target = SocketAddr::new(addr.parse().unwrap(), 7);
        scene.explain(Protocol::Tcp, target, Some([192, 0, 2, 2].into()), true).routing
    };
    assert_eq!(of("203.0.113.5").mute, Some(Mute::Source));
    let by = "the route: blackhole 203.0.113.64/26 table 100".to_owned();
    assert_eq!(of("203.0.113.70").reach, Reach::Dropped(by));
}
