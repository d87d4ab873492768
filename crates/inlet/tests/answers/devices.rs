//! Answers through devices that put headers of their own around the packet: what stands before the network header, and
//! which checksums are left to whom, differs.

use inlet::rules::Protocol;
use inlet_testkit::{End, Namespace, Netns, World, checksum_offload, is_guest, note, veth, vlan_offload};

use crate::common::{bind, up};
use crate::{Echo, PREFIXES, asked_for, so_many, strict, world};

/// A kind of device on top of a veth pair: its name, and the words of `ip link add` after the device's name, with the ends of
/// the pair in place of `OWN4`, `PEER4`, `OWN6` and `PEER6`.
const KINDS: [(&str, &str); 10] = [
    ("vlan", "link wire type vlan id 7"),
    ("vlan whose tag is part of the packet", "link wire type vlan id 7 reorder_hdr off"),
    ("provider's vlan", "link wire type vlan proto 802.1ad id 7"),
    ("macvlan", "link wire type macvlan mode bridge"),
    ("vxlan", "type vxlan id 7 local OWN4 remote PEER4 dstport 4789"),
    ("geneve", "type geneve id 7 remote PEER4"),
    ("gre", "type gre local OWN4 remote PEER4"),
    ("ipip", "type ipip local OWN4 remote PEER4"),
    ("ip6tnl", "type ip6tnl mode any local OWN6 remote PEER6"),
    ("ip6gre", "type ip6gre local OWN6 remote PEER6"),
];

/// The addresses of both ends: of the wire, and of the device on it.
const WIRE: [[&str; 2]; 2] = [["10.9.0.1", "2001:db8:9::1"], ["10.9.0.2", "2001:db8:9::2"]];
const TOP: [[&str; 2]; 2] = [["10.8.0.1", "2001:db8:8::1"], ["10.8.0.2", "2001:db8:8::2"]];
/// What is asked. Through ipip goes IPv4 alone.
const TARGETS: [&str; 2] = ["192.0.2.9", "[2001:db8::9]"];
/// The device on the wire.
const NAME: &str = "top";

fn wire(world: &World, outside: &Namespace) {
    let with_length = WIRE.map(|[v4, v6]| [format!("{v4}/24"), format!("{v6}/64")]);
    let [own, peer] = with_length.each_ref().map(|ends| ends.each_ref().map(String::as_str));
    veth(
        End { namespace: world, name: "wire", addresses: &own },
        End { namespace: outside, name: "wire", addresses: &peer },
    )
    .unwrap();
}

/// Makes the device at both ends; false when this kernel has no such devices. Anything else that fails is an error.
fn make(ends: [&Namespace; 2], words: &str) -> bool {
    for (at, namespace) in ends.into_iter().enumerate() {
        let ([own4, own6], [peer4, peer6]) = (WIRE[at], WIRE[1 - at]);
        let words = words.replace("OWN4", own4).replace("PEER4", peer4).replace("OWN6", own6).replace("PEER6", peer6);
        let words: Vec<&str> = ["link", "add", NAME].into_iter().chain(words.split(' ')).collect();
        match namespace.ip(&words) {
            Err(error) if error.to_string().contains("Unknown device type") => return false,
            made => _ = made.unwrap(),
        }
        for (address, length) in TOP[at].into_iter().zip(["24", "64"]) {
            namespace.ip(&["address", "add", &format!("{address}/{length}"), "dev", NAME, "nodad"]).unwrap();
        }
        namespace.ip(&["link", "set", NAME, "up"]).unwrap();
    }
    for (prefix, via) in PREFIXES.into_iter().zip(TOP[0]) {
        ends[1].ip(&["route", "replace", prefix, "via", via, "dev", NAME]).unwrap();
    }
    true
}

fn ask(world: &World, outside: &Namespace, kind: &str) {
    let mut instance = up(world);
    let echo = Echo::with("[::]:0", so_many);
    let own = echo.port().to_string();
    for prefix in PREFIXES {
        bind(&mut instance, "dns", Protocol::Udp, prefix, "53");
        bind(&mut instance, "dns", Protocol::Udp, prefix, &own);
    }
    instance.register("dns", &echo.socket).unwrap();
    drop(instance);
    for is_offloaded in [true, false] {
        checksum_offload(world, "wire", is_offloaded).unwrap();
        for target in TARGETS.into_iter().filter(|target| kind != "ipip" || !target.contains(':')) {
            for port in ["53", &own] {
                let client = outside.enter(|| strict(&format!("{target}:{port}")));
                for bytes in [0, 1, 1000, 6000] {
                    let about = format!("{kind}: {target}:{port}, {bytes} bytes, offload: {is_offloaded}");
                    assert_eq!(asked_for(&client, bytes, &about), so_many(bytes.to_string().as_bytes()));
                }
            }
        }
    }
    inlet::Instance::down(&crate::common::here(world)).unwrap();
}

#[test]
fn devices_with_headers_of_their_own() {
    let Some(world) = world() else { return };
    let outside = Netns::unentered().unwrap();
    wire(&world, &outside);
    let mut asked = Vec::new();
    for (kind, words) in KINDS {
        // A tag is part of the packet only where the interface does not put it there.
        vlan_offload(&world, "wire", !kind.contains("part of the packet")).unwrap();
        if !make([&world, &outside], words) {
            note(&format!("this kernel has no {kind}"));
            continue;
        }
        ask(&world, &outside, kind);
        asked.push(kind);
        [&world as &Namespace, &outside].into_iter().for_each(|end| _ = end.ip(&["link", "del", NAME]).unwrap());
    }
    // Those that a kernel without modules has too.
    for kind in ["macvlan", "vxlan"] {
        assert!(asked.contains(&kind), "{asked:?}");
    }
    assert!(!is_guest() || asked.len() == KINDS.len(), "{asked:?}");
}
