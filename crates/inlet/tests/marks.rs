//! Marks that nftables gives: real packets, TCP and UDP, IPv4 and IPv6, and what the kernel has attached for them.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::net::SocketAddr;
use std::process::Command;

use common::marks::{Hooks, by_source, client, nft, require_marks, source_of, target};
use common::{Receiver, bind, dial_with, here, patient, selector, snapshot, to, tree, tree_of_one, up, who};
use inlet::rules::{Packet, Protocol, Selector, Target, Verdict, lookup};
use inlet::{Error, Instance, KernelError};
use inlet_testkit::{Cgroup, Namespace, World};
use libc::{NFPROTO_IPV4, NFPROTO_IPV6};

/// A selector for one of both families with a mark.
fn marked(protocol: Protocol, local: &str, ports: &str, mark: &str) -> Selector {
    Selector { mark: Some(mark.parse().unwrap()), ..selector(protocol, local, ports) }
}

/// Every protocol and family.
fn kinds() -> impl Iterator<Item = (Protocol, bool)> {
    Protocol::ALL.into_iter().flat_map(|protocol| [false, true].map(|v6| (protocol, v6)))
}

/// Rules for both protocols and families.
fn bind_all(instance: &mut Instance, target: &Target, ports: &str, mark: &str) {
    for (protocol, v6) in kinds() {
        let local = common::marks::LOCALS[usize::from(v6)];
        instance.bind(target, &marked(protocol, local, ports, mark)).unwrap();
    }
}

fn bind_unmarked(instance: &mut Instance, service: &str, ports: &str) {
    for (protocol, v6) in kinds() {
        bind(instance, service, protocol, common::marks::LOCALS[usize::from(v6)], ports);
    }
}

/// Who answers the client.
fn asked(client: &Namespace, protocol: Protocol, v6: bool, port: u16, number: usize) -> String {
    let how = patient().source(source_of(v6, number));
    client.enter(|| who(&dial_with(protocol, target(v6, port), &how)))
}

/// Every mark to every rule: more bits go before fewer, a mark before none.
#[test]
fn marks_decide_as_the_specification_says() {
    let Some(world) = World::new() else { return };
    if !require_marks() {
        return;
    }
    let client = client(&world);
    let marks = [0, 1, 0x10, 0x12, 0x13, 0x42, 0x112, 0x8000_0000, u32::MAX];
    by_source(&marks);
    let mut instance = up(&world);
    bind_unmarked(&mut instance, "plain", "80-81");
    bind_all(&mut instance, &to("wide"), "80-81", "0x10/0xf0");
    bind_all(&mut instance, &to("narrow"), "80-81", "0x12/0xff");
    bind_all(&mut instance, &to("top"), "80-81", "0x80000000/0x80000000");
    bind_all(&mut instance, &Target::Refuse, "80-81", "0x42");
    bind_all(&mut instance, &to("only"), "90", "0x12/0xff");
    // The narrower port range goes before any mark.
    bind_all(&mut instance, &to("port"), "81", "0x1/0x1");
    let _receivers = ["plain", "wide", "narrow", "top", "only", "port"].map(|name| Receiver::of(&mut instance, name));
    let ruleset = instance.ruleset().unwrap().clone();
    drop(instance);
    let mut seen = std::collections::BTreeSet::new();
    for (protocol, v6) in kinds() {
        for (number, mark) in marks.iter().enumerate() {
            for port in [80, 81, 90] {
                let remote = SocketAddr::new(source_of(v6, number), 40_000);
                let packet = Packet { mark: Some(*mark), ..Packet::new(protocol, target(v6, port), remote) };
                let expected = match lookup(&ruleset, &packet).map(|rule| rule.verdict) {
                    Some(verdict @ Verdict::Service(_)) => ruleset.service_name(verdict).unwrap(),
                    _ => "Refused",
                };
                assert_eq!(asked(&client, protocol, v6, port, number), expected, "{packet:?}");
                seen.insert(expected.to_owned());
            }
        }
    }
    assert_eq!(seen.len(), 7, "{seen:?}");
}

const DIAL: &str = "INLET_DIAL";

/// A process that dials: this program with nothing but the test below in it.
fn dialer() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_dialer", "--nocapture", "--test-threads=1"]);
    command
}

/// What that process does. In a normal run it is nothing.
#[test]
#[allow(clippy::print_stdout, reason = "the answer is for the process that started it")]
fn the_dialer() {
    let Ok(dial) = std::env::var(DIAL) else { return };
    let (protocol, target) = dial.split_once(' ').unwrap();
    println!("\nanswer: {}", common::asked(protocol.parse().unwrap(), target));
}

/// By DSCP, by a set of sources, and by the control group of a local sender.
#[test]
fn nftables_marks_by_dscp_by_set_and_by_cgroup() {
    let Some(world) = World::new() else { return };
    if !require_marks() {
        return;
    }
    let client = client(&world);
    let cgroup = Cgroup::new().unwrap();
    let path = cgroup.path().file_name().unwrap().to_str().unwrap();
    nft(&format!(
        "table inet marks {{
            set sources {{ type ipv4_addr; elements = {{ 10.9.1.7 }} }}
            set sources6 {{ type ipv6_addr; elements = {{ fd09:1::7 }} }}
            chain in {{ type filter hook prerouting priority mangle;
                iif lo accept
                ip dscp af41 meta mark set 0x1
                ip6 dscp af41 meta mark set 0x1
                ip saddr @sources meta mark set 0x2
                ip6 saddr @sources6 meta mark set 0x2
            }}
            chain out {{ type filter hook output priority mangle;
                socket cgroupv2 level 1 \"{path}\" meta mark set 0x3
            }}
        }}"
    ));
    client.enter(|| {
        nft("table inet tos {
            chain out { type filter hook output priority 0;
                ip saddr 10.9.1.5 ip dscp set af41
                ip6 saddr fd09:1::5 ip6 dscp set af41
            }
        }");
    });
    let mut instance = up(&world);
    bind_unmarked(&mut instance, "plain", "80");
    let services = ["dscp", "set", "group"];
    for (service, mark) in services.iter().zip(["0x1", "0x2", "0x3"]) {
        bind_all(&mut instance, &to(service), "80", mark);
    }
    let _receivers = ["plain", "dscp", "set", "group"].map(|name| Receiver::of(&mut instance, name));
    drop(instance);
    for (protocol, v6) in kinds() {
        let answers = [4, 6, 3].map(|number| asked(&client, protocol, v6, 80, number));
        assert_eq!(answers, ["dscp", "set", "plain"], "{protocol} {v6}");
        let dial = |command: &mut Command| {
            let output = world.run(command.env(DIAL, format!("{protocol} {}", target(v6, 80)))).unwrap();
            let told = String::from_utf8(output.stdout).unwrap();
            told.lines().find_map(|line| line.strip_prefix("answer: ")).unwrap_or_else(|| panic!("{told}")).to_owned()
        };
        let mut inside = dialer();
        cgroup.contain(&mut inside).unwrap();
        assert_eq!([dial(&mut inside), dial(&mut dialer())], ["group", "plain"], "{protocol} {v6}");
    }
}

/// A connection from the port of one that is in TIME_WAIT gets its mark as any other.
#[test]
fn time_wait_keeps_no_mark_back() {
    let Some(world) = World::new() else { return };
    if !require_marks() {
        return;
    }
    let client = client(&world);
    by_source(&[0, 7]);
    let mut instance = up(&world);
    bind_unmarked(&mut instance, "plain", "80");
    bind_all(&mut instance, &to("marked"), "80", "7");
    let _receivers = ["plain", "marked"].map(|name| Receiver::of(&mut instance, name));
    drop(instance);
    for v6 in [false, true] {
        let how = patient().source(source_of(v6, 1)).source_port(5000);
        let dial = || client.enter(|| who(&dial_with(Protocol::Tcp, target(v6, 80), &how)));
        assert_eq!(dial(), "marked");
        let waiting = String::from_utf8(
            Command::new("ss").args(["-Htan", "state", "time-wait", "dport", "=", ":5000"]).output().unwrap().stdout,
        );
        assert!(waiting.unwrap().contains(":5000"), "the server closes first");
        assert_eq!(dial(), "marked");
    }
}

/// What is attached is there while a rule of the family has a mark, and no longer; and nothing is left in the end.
#[test]
fn it_is_attached_only_while_a_rule_has_a_mark() {
    let Some(world) = World::new() else { return };
    if !require_marks() {
        return;
    }
    let mut instance = up(&world);
    bind(&mut instance, "web", Protocol::Tcp, "192.0.2.0/24", "80");
    let mut hooks = Hooks::default();
    let [v4, v6] = ["192.0.2.0/24", "2001:db8:a::/64"].map(|local| marked(Protocol::Tcp, local, "80", "0x1/0xff"));
    instance.bind(&to("web"), &v4).unwrap();
    hooks.become_those_of(&world, &[NFPROTO_IPV4]);
    instance.bind(&to("web"), &v6).unwrap();
    hooks.become_those_of(&world, &[NFPROTO_IPV4, NFPROTO_IPV6]);
    instance.unbind(&v4).unwrap();
    hooks.become_those_of(&world, &[NFPROTO_IPV6]);
    instance.roll_back(&inlet::CommitOptions::default()).unwrap();
    hooks.become_those_of(&world, &[NFPROTO_IPV4, NFPROTO_IPV6]);
    instance.unbind(&v4).unwrap();
    instance.unbind(&v6).unwrap();
    hooks.become_those_of(&world, &[]);
    assert_eq!(tree(world.bpffs.path()), tree_of_one(&world, instance.generation()));
    instance.bind(&to("web"), &v4).unwrap();
    instance.bind(&to("web"), &v6).unwrap();
    hooks.become_those_of(&world, &[NFPROTO_IPV4, NFPROTO_IPV6]);
    drop(instance);
    assert_eq!(snapshot(&world).ruleset().len(), 3);
    Instance::down(&here(&world)).unwrap();
    hooks.become_those_of(&world, &[]);
    assert_eq!(tree(world.bpffs.path()), ["inlet"]);
}

/// Whoever takes a pin away is found out, and a commit that changes nothing else makes all anew.
#[test]
fn what_is_gone_is_told_and_made_anew() {
    let Some(world) = World::new().filter(|_| require_marks()) else { return };
    let client = client(&world);
    by_source(&[0, 7]);
    let mut instance = up(&world);
    bind_unmarked(&mut instance, "plain", "80");
    bind_all(&mut instance, &to("marked"), "80", "7");
    let _receivers = ["plain", "marked"].map(|name| Receiver::of(&mut instance, name));
    let same = instance.ruleset().unwrap().clone();
    drop(instance);
    let codes = || {
        let found = inlet::Checker::new(here(&world)).check(None).unwrap();
        found.findings.iter().filter(|it| it.code == "marks-unknown").map(|it| it.what.clone()).collect::<Vec<_>>()
    };
    let mut hooks = Hooks::default();
    for (pins, what) in
        [(&["ipv4"][..], "IPv4"), (&["slots"], "IPv4 and IPv6"), (&["ipv4", "ipv6", "slots"], "IPv4 and IPv6")]
    {
        assert_eq!(codes(), [""; 0]);
        assert_eq!([false, true].map(|v6| asked(&client, Protocol::Tcp, v6, 80, 1)), ["marked", "marked"]);
        hooks.note(&world);
        pins.iter().for_each(|pin| std::fs::remove_file(here(&world).dir().join("marks").join(pin)).unwrap());
        assert_eq!(codes(), [format!("the program that hands marks over is gone for {what}")]);
        let committed = common::open(&world).commit(same.clone(), &inlet::CommitOptions::default()).unwrap();
        assert!(committed.plan.is_empty());
    }
    assert_eq!([false, true].map(|v6| asked(&client, Protocol::Udp, v6, 80, 1)), ["marked", "marked"]);
}

/// Without programs in netfilter a rule with a mark is refused, and nothing changes.
#[test]
fn an_older_kernel_is_told_what_it_lacks() {
    let Some(world) = World::new() else { return };
    if common::marks::has_marks() {
        return;
    }
    let mut instance = up(&world);
    bind(&mut instance, "web", Protocol::Tcp, "192.0.2.0/24", "80");
    let generation = instance.generation();
    let error = instance.bind(&to("web"), &marked(Protocol::Tcp, "192.0.2.0/24", "80", "1")).unwrap_err();
    assert!(matches!(error, Error::Kernel(KernelError::Feature { since: "6.4", .. })), "{error:?}");
    assert!(common::told(&error).ends_with("\nfix: use Linux 6.4 or newer"), "{}", common::told(&error));
    assert_eq!((instance.generation(), instance.ruleset().unwrap().len()), (generation, 1));
    assert_eq!(tree(world.bpffs.path()), tree_of_one(&world, generation));
    drop(instance);
    // A plan says so before.
    let planner = inlet::Planner::open(common::here(&world)).unwrap();
    let edit = inlet::Edit::Bind(to("web"), marked(Protocol::Tcp, "192.0.2.0/24", "80", "1"));
    let warnings = planner.warnings(&planner.propose_edit(&edit).unwrap()).unwrap();
    let foretold = |warning: &inlet::Warning| match warning {
        inlet::Warning::Refused { reason, fix } => {
            reason.contains("NETFILTER_BPF_LINK") && fix == "use Linux 6.4 or newer"
        }
        _ => false,
    };
    assert!(warnings.iter().any(foretold), "{warnings:?}");
}
