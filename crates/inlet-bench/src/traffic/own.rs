//! Own binds: what they cost the calls of programs that have none.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use inlet::rules::{Confine, Description, Listen};
use inlet::{Instance, Location, Netns, ServiceRequest, UpOptions};
use inlet_testkit::{Cgroup, World};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};

use crate::Result;
use crate::budget::Budget;
use crate::stats::median;
use crate::traffic::small::{self, BATCH};
use crate::traffic::turns::{self, Row, Turns};

/// Where the sockets of the program outside are bound, one after the other.
const FIRST: u16 = 20_000;
/// Each kind of call in each turn.
const SHORT: Duration = Duration::from_millis(10);

/// What was measured.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Report {
    pub(crate) calls: Vec<Row>,
}

/// Measures the calls with own binds in force and without, in turn, in this time.
pub(crate) fn run(quick: bool, time: Budget<'_>) -> Result<Report> {
    let rounds = if quick { 20 } else { 50 };
    crate::table::progress(format_args!("own binds: {rounds} rounds"));
    let world = World::try_new()?;
    let group = Cgroup::new()?;
    let location = Location::new(world.bpffs.path(), Netns::own()?);
    let mut instance = Instance::up(location, &UpOptions::default())?;
    let enter = |state| describe(&mut instance, &group, state == 1);
    let work = |kind| if kind == 0 { binds(SHORT) } else { names(SHORT) };
    let turns = Turns::take((2, 2, rounds), time, enter, work)?;
    let calls = ["bind()", "getsockname()"].iter().enumerate().map(|(kind, what)| turns.row(what, kind, [0, 1]));
    let report = Report { calls: calls.collect() };
    turns::print("Own binds in force, for a program that has none", &report.calls)?;
    Ok(report)
}

/// The programs of an empty group have own binds, or are described alone.
fn describe(instance: &mut Instance, group: &Cgroup, own: bool) -> Result<()> {
    let mut description = Description::new([Listen::ALL_TCP, Listen::ALL_UDP])?;
    let name = group.path().file_name().ok_or("a control group has a name")?;
    description.confine = Some(Confine::Cgroup(format!("/{}", name.to_string_lossy()).parse()?));
    description.own_binds = own;
    // All sockets of a group are described by own binds alone.
    let description = Some(own.then_some(description));
    instance.set_service(&"game".parse()?, ServiceRequest { description, ..ServiceRequest::default() })?;
    Ok(())
}

/// How many calls of bind() a second; opening and closing the sockets is not counted.
fn binds(time: Duration) -> Result<f64> {
    let (started, mut took) = (Instant::now(), Vec::new());
    while started.elapsed() < time {
        let sockets = (0..BATCH).map(|_| socket()).collect::<Result<Vec<_>>>()?;
        let begun = Instant::now();
        for (socket, port) in sockets.iter().zip(FIRST..) {
            bind(socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        }
        took.push(begun.elapsed().as_secs_f64());
    }
    Ok(BATCH as f64 / median(took))
}

/// How many calls of getsockname() a second.
fn names(time: Duration) -> Result<f64> {
    let socket = socket()?;
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST)))?;
    small::usual(time, || {
        for _ in 0..BATCH {
            getsockname(&socket)?;
        }
        Ok(())
    })
}

fn socket() -> Result<OwnedFd> {
    Ok(socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}
