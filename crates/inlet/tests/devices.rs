//! Programs that bind one address on several interfaces: a description tells their sockets apart by the interface.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use common::{asked, bind, here, open, source, state, told, up};
use inlet::rules::Protocol::{self, Tcp, Udp};
use inlet::rules::config::{Routes, write, write_toml};
use inlet::rules::{Description, InterfaceName};
use inlet::{ApplyOptions, Checker, Instance, Netns, ServiceRequest};
use inlet_testkit::{End, Listen, Namespace, TcpServer, UdpServer, World, veth};

const INTERFACES: [&str; 2] = ["in-a", "in-b"];
/// The address that programs have on each interface.
const LINK_LOCAL: &str = "fe80::53";
const TARGET: &str = "[2001:db8:1::7]:443";

/// A host with two interfaces, each with the same address, and a neighbour at each.
struct Two {
    world: World,
    neighbours: [Namespace; 2],
}

impl Two {
    fn new() -> Option<Self> {
        let world = World::new()?;
        world.local("2001:db8:1::/48").unwrap();
        let neighbours = [0, 1].map(|_| inlet_testkit::Netns::unentered().unwrap());
        let two = Self { world, neighbours };
        (0..2).for_each(|number| two.connect(number));
        let mut instance = up(&two.world);
        for protocol in [Tcp, Udp] {
            bind(&mut instance, "a", protocol, "2001:db8:1::7", "443");
        }
        Some(two)
    }

    fn connect(&self, number: usize) {
        let here = Namespace::current().unwrap();
        let own = [format!("{LINK_LOCAL}/64"), format!("2001:db8:9{number}::1/64")];
        let own = own.each_ref().map(String::as_str);
        let theirs = format!("2001:db8:9{number}::2/64");
        let (name, other) = (INTERFACES[number], &self.neighbours[number]);
        veth(
            End { namespace: &here, name, addresses: &own },
            End { namespace: other, name: "out", addresses: &[theirs.as_str()] },
        )
        .unwrap();
        other.ip(&["-6", "route", "add", "2001:db8:1::/48", "via", &format!("2001:db8:9{number}::1")]).unwrap();
    }

    /// Who answers a neighbour.
    fn ask(&self, from: usize, protocol: Protocol) -> String {
        self.neighbours[from].enter(|| asked(protocol, TARGET))
    }

    /// A server for each protocol at the address that both interfaces have.
    fn server(&self, number: usize) -> (TcpServer, UdpServer) {
        let index = Netns::own().unwrap().interface_index(&name(INTERFACES[number])).unwrap().unwrap();
        let at = |port| SocketAddr::V6(SocketAddrV6::new(LINK_LOCAL.parse::<Ipv6Addr>().unwrap(), port, 0, index));
        let called = ["at-a", "at-b"][number];
        (TcpServer::spawn(called, at(8443)).unwrap(), UdpServer::spawn(called, at(8443)).unwrap())
    }
}

fn name(text: &str) -> InterfaceName {
    text.parse().unwrap()
}

fn describe(instance: &mut Instance, service: &str, listen: &[&str]) -> inlet::Result<()> {
    let description = Description::new(listen.iter().map(|text| text.parse().unwrap())).unwrap();
    let request = ServiceRequest { description: Some(Some(description)), ..ServiceRequest::default() };
    instance.set_service(&service.parse().unwrap(), request).map(drop)
}

const ON_A: [&str; 2] = ["tcp:[fe80::53%in-a]:8443", "udp:[fe80::53%in-a]:8443"];
const ON_B: [&str; 2] = ["tcp:[fe80::53%in-b]:8443", "udp:[fe80::53%in-b]:8443"];

/// Sockets that were there before, those that come later, and what becomes of them when two services swap interfaces.
#[test]
fn the_interface_tells_sockets_of_one_address_apart() {
    let Some(two) = Two::new() else { return };
    for early in [true, false] {
        let servers = early.then(|| [two.server(0), two.server(1)]);
        describe(&mut open(&two.world), "a", &ON_A).unwrap();
        let servers = servers.unwrap_or_else(|| [two.server(0), two.server(1)]);
        open(&two.world).adopt().unwrap();
        for protocol in [Tcp, Udp] {
            // What comes in on the other interface is for a service whose sockets get nothing there.
            assert_eq!([two.ask(0, protocol), two.ask(1, protocol)], ["at-a", "Refused"], "{protocol} early: {early}");
        }
        assert_eq!(state(&two.world, "a").sockets.len(), 2);
        drop(servers);
        common::wait_for_sockets(&two.world, "a", 0);
    }
    let _servers = [two.server(0), two.server(1)];
    let mut instance = open(&two.world);
    describe(&mut instance, "b", &ON_B).unwrap();
    instance.adopt().unwrap();
    let mut swapped = Vec::new();
    write_toml(instance.ruleset().unwrap(), Routes::Leave, &mut swapped).unwrap();
    drop(instance);
    let devices = |service| {
        let all = state(&two.world, service).sockets;
        all.into_iter().map(|socket| socket.device.unwrap().name).collect::<Vec<_>>()
    };
    assert_eq!([devices("a"), devices("b")], [["in-a", "in-a"], ["in-b", "in-b"]]);
    let swapped = String::from_utf8(swapped).unwrap();
    let swapped = swapped.replace("%in-a", "%in-x").replace("%in-b", "%in-a").replace("%in-x", "%in-b");
    open(&two.world).apply(source(&swapped), &ApplyOptions::default()).unwrap();
    assert_eq!([devices("a"), devices("b")], [["in-b", "in-b"], ["in-a", "in-a"]]);
    for protocol in [Tcp, Udp] {
        assert_eq!([two.ask(0, protocol), two.ask(1, protocol)], ["Refused", "at-b"], "{protocol}");
    }
}

/// Every address, IPv4 too; and a socket that is bound to no interface is not meant.
#[test]
fn any_address_of_an_interface() {
    let Some(two) = Two::new() else { return };
    describe(&mut open(&two.world), "a", &["tcp:*%in-b:8443", "udp:0.0.0.0%in-b:8443"]).unwrap();
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let anywhere = TcpServer::spawn_with("any", at("[::]:8443"), Listen::new().reuseport()).unwrap();
    let on_a = TcpServer::spawn_with("a", at("0.0.0.0:8443"), Listen::new().reuseport().device("in-a"));
    open(&two.world).adopt().unwrap();
    assert_eq!(state(&two.world, "a").sockets.len(), 0);
    let on_b = TcpServer::spawn_with("b", at("[::]:8443"), Listen::new().reuseport().device("in-b")).unwrap();
    let udp = UdpServer::spawn_with("b", at("0.0.0.0:8443"), Listen::new().device("in-b")).unwrap();
    open(&two.world).adopt().unwrap();
    assert_eq!(state(&two.world, "a").sockets.len(), 2);
    assert_eq!([two.ask(0, Tcp), two.ask(1, Tcp)], ["Refused", "b"]);
    drop((anywhere, on_a, on_b, udp));
}

/// An interface that is not there is refused. One that was made anew has another index, which the next commit looks up.
#[test]
fn interfaces_that_are_not_there() {
    let Some(two) = Two::new() else { return };
    let error = describe(&mut open(&two.world), "a", &["tcp:*%absent:80"]).unwrap_err();
    assert!(told(&error).starts_with("no interface \"absent\" in "), "{}", told(&error));
    let file = "services.a.listen = \"tcp:*%absent:80\"\nrules = []\n";
    let error = open(&two.world).apply(source(file), &ApplyOptions::default()).unwrap_err();
    assert!(told(&error).contains("absent"), "{}", told(&error));
    assert_eq!(state(&two.world, "a").description, None);

    describe(&mut open(&two.world), "a", &ON_A).unwrap();
    let codes = || -> Vec<&str> {
        let all = Checker::new(here(&two.world)).check(None).unwrap().findings;
        all.into_iter().map(|it| it.code).filter(|code| code.starts_with("interface-")).collect()
    };
    assert_eq!(codes(), [""; 0]);
    let mut exported = Vec::new();
    write(open(&two.world).ruleset().unwrap(), Routes::Leave, &mut exported).unwrap();
    let exported = String::from_utf8(exported).unwrap();
    two.world.ip(&["link", "del", "in-a"]).unwrap();
    assert_eq!(codes(), ["interface-gone"]);
    // What is gone keeps nobody from changing other rules.
    bind(&mut open(&two.world), "other", Tcp, "2001:db8:1::8", "443");
    two.connect(0);
    assert_eq!(codes(), ["interface-made-anew"]);
    let _server = two.server(0);
    open(&two.world).adopt().unwrap();
    assert_eq!(state(&two.world, "a").sockets.len(), 0);
    open(&two.world).apply(source(&exported), &ApplyOptions::default()).unwrap();
    assert_eq!(codes(), [""; 0]);
    assert_eq!(state(&two.world, "a").sockets.len(), 2);
    assert_eq!([Tcp, Udp].map(|protocol| two.ask(0, protocol)), ["at-a", "at-a"]);
}
