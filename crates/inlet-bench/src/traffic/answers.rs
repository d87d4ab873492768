//! Answers over UDP that leave as asked, and flows that stay: what they cost the server that has them, the services that
//! need none, and other programs.
//!
//! All is measured on one host, whose service is changed by a commit before each turn. So nothing of it is attached in
//! the turns without.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use inlet::rules::{Answers, Protocol, Selector, Sticky, Target};
use inlet::{Instance, ServiceRequest, UpOptions};
use inlet_testkit::{End, Namespace, World, veth};
use rustix::net::netdevice::name_to_index;

use crate::baseline::no_sends;
use crate::budget::Budget;
use crate::raw::Hook;
use crate::traffic::described::cgroup_root;
use crate::traffic::setup::{NET, location};
use crate::traffic::turns::{self, Row, Turns};
use crate::traffic::{bulk, small};
use crate::{Result, raw};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// What clients ask, by the ports of the service that is changed and of another one.
const ASKED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const CHANGED: (&str, u16) = ("changed", 8080);
const OTHER: (&str, u16) = ("other", 8081);
/// Each kind of work in each turn.
const SHORT: Duration = Duration::from_millis(20);

/// The states of the service.
const BOUND: usize = 0;
/// Bound, and programs that do nothing are attached where Inlet attaches its own.
const EMPTY: usize = 1;
const LEAVING: usize = 2;
const STAYING: usize = 3;

/// The kinds of work.
const RECEIVING: usize = 0;
const SENDING: usize = 1;
const OTHER_RECEIVING: usize = 2;
const OTHER_SENDING: usize = 3;
const OTHER_BULK: usize = 4;

/// What was measured.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Report {
    pub(crate) receiving: Row,
    pub(crate) sending: Row,
    pub(crate) other_service: Row,
    pub(crate) other_sends: Row,
    pub(crate) other_bulk: Row,
    /// Against programs attached that do nothing.
    pub(crate) beside_empty: [Row; 2],
    /// Against answers as asked alone.
    pub(crate) sticky_receiving: Row,
}

/// The host and its client.
struct Lane {
    server: Namespace,
    client: Namespace,
    /// The sockets of the services, and one that is in none.
    changed: UdpSocket,
    other: UdpSocket,
    outside: UdpSocket,
    /// The client's: one that is connected to each service, and one that is not.
    asking: [UdpSocket; 2],
    hearing: UdpSocket,
    tcp: TcpListener,
}

/// Measures all, in this time.
pub(crate) fn run(quick: bool, time: Budget<'_>) -> Result<Report> {
    let rounds = if quick { 20 } else { 60 };
    crate::table::progress(format_args!("answers: {rounds} rounds"));
    let world = World::try_new()?;
    let lane = Lane::set_up()?;
    let mut instance = lane.steer(&world)?;
    let (nothing, root) = (no_sends()?, File::open(cgroup_root()?)?);
    let mut attached = Vec::new();
    let enter = |state| {
        lane.server.enter(|| {
            attached.clear();
            change(&mut instance, state)?;
            if state == EMPTY {
                let [sends, packets] = nothing.each_ref().map(AsFd::as_fd);
                attached.push(raw::attach(sends, Hook::Sends(root.as_fd()))?);
                // Before Linux 6.6 there is a qdisc in place of such links: then the sends alone are called.
                attached.extend(raw::attach(packets, Hook::Leaving(name_to_index(&lane.outside, "veth0")?)).ok());
            }
            Ok(())
        })
    };
    let turns = Turns::take((4, 5, rounds), time, enter, |kind| lane.work(kind))?;
    let in_force = [BOUND, LEAVING];
    let report = Report {
        receiving: turns.row("datagrams received", RECEIVING, in_force),
        sending: turns.row("answers sent", SENDING, in_force),
        other_service: turns.row("datagrams received by another service", OTHER_RECEIVING, in_force),
        other_sends: turns.row("datagrams sent by another program", OTHER_SENDING, in_force),
        other_bulk: turns.row("MB of TCP of another program", OTHER_BULK, in_force),
        beside_empty: [("answers sent", SENDING), ("datagrams sent by another program", OTHER_SENDING)]
            .map(|(what, kind)| turns.row(what, kind, [EMPTY, LEAVING])),
        sticky_receiving: turns.row("datagrams received", RECEIVING, [LEAVING, STAYING]),
    };
    print(&report)?;
    Ok(report)
}

impl Lane {
    fn set_up() -> Result<Self> {
        let (server, client) = (Namespace::new()?, Namespace::new()?);
        let end = |namespace, addresses| End { namespace, name: "veth0", addresses };
        veth(end(&server, &["10.9.0.1/24"]), end(&client, &["10.9.0.2/24"]))?;
        client.ip(&["route", "add", NET, "via", "10.9.0.1"])?;
        server.local(NET)?;
        // Bound to any address: so it can send to the client also while its answers leave as it is bound.
        let udp = || server.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)));
        let [changed, other, outside] = [udp()?, udp()?, udp()?];
        let bound = || client.enter(|| UdpSocket::bind((CLIENT, 0)));
        let (asking, hearing) = ([bound()?, bound()?], bound()?);
        // Clients are elsewhere usually: what a program does to their sends, as to all of a host, is not to be counted.
        asking[0].connect((ASKED, CHANGED.1))?;
        asking[1].connect((ASKED, OTHER.1))?;
        for socket in [&changed, &other, &hearing] {
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        }
        let tcp = server.enter(|| TcpListener::bind((SERVER, 0)))?;
        Ok(Self { server, client, changed, other, outside, asking, hearing, tcp })
    }

    /// Both services, with a rule and a socket for each.
    fn steer(&self, world: &World) -> Result<Instance> {
        let location = location(world, &self.server)?;
        self.server.enter(|| {
            let mut instance = Instance::up(location, &UpOptions::default())?;
            for ((service, port), socket) in [(CHANGED, &self.changed), (OTHER, &self.other)] {
                let name = service.parse()?;
                let request = ServiceRequest { answers: Some(Answers::Bound), ..ServiceRequest::default() };
                instance.set_service(&name, request)?;
                instance.bind(&Target::Service(name), &selector(port)?)?;
                instance.register(service, socket)?;
            }
            Ok(instance)
        })
    }

    fn work(&self, kind: usize) -> Result<f64> {
        let received =
            |from: &UdpSocket, at: &UdpSocket| small::usual(SHORT, || small::pass(at, |data| from.send(data)));
        let sent = |from: &UdpSocket| {
            let to = self.hearing.local_addr()?;
            small::usual(SHORT, || small::pass(&self.hearing, |data| from.send_to(data, to)))
        };
        match kind {
            RECEIVING => received(&self.asking[0], &self.changed),
            SENDING => {
                self.hearing.send_to(b"hello", (ASKED, CHANGED.1))?;
                self.changed.recv(&mut [0; 8])?;
                sent(&self.changed)
            }
            OTHER_RECEIVING => received(&self.asking[1], &self.other),
            OTHER_SENDING => sent(&self.outside),
            // Not all of it runs on one thread.
            _ => self.client.enter(|| Ok(1e3 / bulk::stream(self.tcp.local_addr()?, &self.tcp, 2 * SHORT)?.cpu_per_gb)),
        }
    }
}

fn selector(port: u16) -> Result<Selector> {
    let (local, ports) = (NET.parse()?, port.to_string().parse()?);
    Ok(Selector { protocol: Protocol::Udp, local, ports, source: None, iface: None, mark: None })
}

/// Puts a state of the service in force.
fn change(instance: &mut Instance, state: usize) -> Result<()> {
    let answers = Some(if state < LEAVING { Answers::Bound } else { Answers::Asked });
    let sticky = Sticky::new(if state == STAYING { 120 } else { 0 });
    instance.set_service(&CHANGED.0.parse()?, ServiceRequest { answers, sticky, ..ServiceRequest::default() })?;
    Ok(())
}

fn print(report: &Report) -> Result<()> {
    let Report { receiving, sending, other_service, other_sends, other_bulk, .. } = report;
    let rows = [receiving, sending, other_service, other_sends, other_bulk].map(Row::clone);
    turns::print("Answers over UDP that leave as asked, against as bound", &rows)?;
    turns::print("The same against programs that do nothing", &report.beside_empty)?;
    turns::print("Flows that stay, against answers as asked alone", std::slice::from_ref(&report.sticky_receiving))
}
