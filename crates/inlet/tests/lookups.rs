//! Programs on an interface ask who would receive a packet, before the kernel does: XDP (generic, on a veth) and tc find
//! the steered listener and the steered UDP socket, and recognise the ACK that answers a syncookie.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use common::asking::{Asking, At, Met};
use common::marks::{LOCALS, client, target};
use common::{Receiver, bind, dial_with, patient, up, who};
use inlet::rules::Protocol::{Tcp, Udp};
use inlet_testkit::World;

/// Attaches a program to the interface that the client's packets come in on.
fn attach(world: &World, at: At, asking: &Asking) {
    let pin = world.pin("asking");
    asking.pin(&pin);
    let path = pin.to_str().unwrap();
    match at {
        At::Xdp => drop(world.ip(&["-force", "link", "set", "dev", "v1", "xdpgeneric", "pinned", path]).unwrap()),
        At::Tc => {
            let tc = |words: &[&str]| drop(world.run(std::process::Command::new("tc").args(words)).unwrap());
            tc(&["qdisc", "replace", "dev", "v1", "clsact"]);
            tc(&["filter", "replace", "dev", "v1", "ingress", "prio", "1", "handle", "1", "bpf", "da", "pinned", path]);
        }
    }
    std::fs::remove_file(pin).unwrap();
}

fn detach(world: &World, at: At) {
    match at {
        At::Xdp => drop(world.ip(&["link", "set", "dev", "v1", "xdpgeneric", "off"]).unwrap()),
        At::Tc => {
            drop(world.run(std::process::Command::new("tc").args(["qdisc", "del", "dev", "v1", "clsact"])).unwrap())
        }
    }
}

/// A client beside a host with a service `web` at port 80.
fn scene() -> Option<(World, inlet_testkit::Namespace, Receiver)> {
    let world = World::new()?;
    let client = client(&world);
    let mut instance = up(&world);
    for local in LOCALS {
        bind(&mut instance, "web", Tcp, local, "80");
        bind(&mut instance, "web", Udp, local, "80");
    }
    let receiver = Receiver::of(&mut instance, "web");
    drop(instance);
    Some((world, client, receiver))
}

#[test]
fn programs_on_an_interface_find_steered_sockets() {
    let Some((world, client, receiver)) = scene() else { return };
    for at in [At::Xdp, At::Tc] {
        for (protocol, v6) in [(Tcp, false), (Tcp, true), (Udp, false), (Udp, true)] {
            let about = format!("{at:?} {protocol} {v6}");
            let server = if protocol == Tcp { &*receiver.tcp } else { &*receiver.udp };
            let [steered, other] = [80, 81].map(|port| Asking::load(at, protocol, v6, port));
            attach(&world, at, &steered);
            let dial = |port| client.enter(|| who(&dial_with(protocol, target(v6, port), &patient())));
            assert_eq!(dial(80), "web", "{about}");
            let met = steered.met();
            // Later packets of a connection meet its own socket, at the port that the client asked.
            let listener = Met { port: server.local_addr().port(), cookie: false };
            assert!(met.iter().any(|(it, count)| *it == listener && *count > 0), "{about}: {met:?}");
            assert!(met.iter().all(|(it, _)| *it == listener || it.port == 80 && protocol == Tcp), "{about}: {met:?}");
            // Where no rule is and no socket, they find none.
            attach(&world, at, &other);
            assert_eq!(dial(81), "Refused", "{about}");
            let none = Met { port: 0, cookie: false };
            assert!(matches!(other.met()[..], [(met, 1..)] if met == none), "{about}: {:?}", other.met());
            detach(&world, at);
        }
    }
}

#[test]
fn programs_on_an_interface_recognise_the_answer_to_a_syncookie() {
    let Some((world, client, receiver)) = scene() else { return };
    world.sysctl("net/ipv4/tcp_syncookies", "2").unwrap();
    let listener = receiver.tcp.local_addr().port();
    for at in [At::Xdp, At::Tc] {
        for v6 in [false, true] {
            let asking = Asking::load(at, Tcp, v6, 80);
            attach(&world, at, &asking);
            assert_eq!(client.enter(|| who(&dial_with(Tcp, target(v6, 80), &patient()))), "web", "{at:?} {v6}");
            let met = asking.met();
            let count = |cookie| {
                let wanted = Met { port: listener, cookie };
                met.iter().find(|(it, _)| *it == wanted).map_or(0, |(_, count)| *count)
            };
            // The SYN is no answer, and the ACK after it is one.
            assert!(count(false) >= 1 && count(true) >= 1, "{at:?} {v6}: {met:?}");
            detach(&world, at);
        }
    }
}
