//! Descriptions: what their programs cost connections that they do not mean, and how soon `inlet watch` finds a UDP
//! socket.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use inlet::rules::{Description, Protocol, Selector, Target};
use inlet::{Instance, ServiceRequest, Snapshot};
use inlet_testkit::World;
use libbpf_rs::Program;
use libbpf_rs::query::LinkInfo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::args::Cli;
use crate::baseline::no_event;
use crate::budget::Budget;
use crate::launch::Inlet;
use crate::raw::Hook;
use crate::stats::{Spread, median};
use crate::traffic::setup::{Lane, NET, Way, location};
use crate::traffic::small;
use crate::{Result, raw, table};

/// Where the UDP socket is bound, and what clients ask for.
const BOUND: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5300);
const TARGET: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), 53);
/// Between two datagrams of the client.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000 };
/// When something is wrong.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Connects a second.
    pub(crate) connects: Vec<Row>,
    /// From bind() to the first datagram.
    pub(crate) found_ms: Times,
}

/// Times of one kind, in ms.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Times {
    pub(crate) median: f64,
    /// The 99th percentile.
    pub(crate) last: f64,
    pub(crate) max: f64,
}

/// Connects with a program of one kind attached, or none.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) attached: &'static str,
    pub(crate) rate: Spread,
    /// The median against the one without.
    pub(crate) ratio: f64,
    /// The median of the ratios round by round.
    pub(crate) by_round: f64,
}

/// What is attached, in this order.
const ATTACHED: [&str; 3] = ["nothing", "a program that does nothing", "descriptions"];

impl Report {
    /// Descriptions against nothing, and against a program that does nothing. Of ratios round by round: those of the
    /// medians differ more from run to run than what is to be seen.
    pub(crate) fn ratios(&self) -> [f64; 2] {
        let [empty, described] = [1, 2].map(|at| self.connects[at].by_round);
        [described, described / empty]
    }
}

impl Times {
    fn of(mut ms: Vec<f64>) -> Self {
        ms.sort_by(f64::total_cmp);
        let at = |part: f64| ms[((ms.len() as f64 * part).ceil() as usize).clamp(1, ms.len()) - 1];
        Self { median: at(0.5), last: at(0.99), max: at(1.0) }
    }
}

/// Measures both, in this time.
pub(crate) fn run(cli: &Cli, time: Budget<'_>) -> Result<Report> {
    let (rounds, binds) = if cli.quick { (100, 50) } else { (400, 300) };
    let world = World::try_new()?;
    let lane = Lane::set_up(Way::Inlet(1), &world)?;
    let rates = connects(&world, &lane, rounds, time.share(0.8))?;
    let connects = ATTACHED.iter().zip(&rates).map(|(attached, with)| row(attached, with, &rates[0])).collect();
    let found_ms = Times::of(found(&world, &lane, &Inlet::find(cli.inlet.as_deref())?, binds, time)?);
    let report = Report { connects, found_ms };
    print(&report)?;
    Ok(report)
}

fn row(attached: &'static str, with: &[f64], without: &[f64]) -> Row {
    let (rate, bare) = (Spread::of(with), Spread::of(without));
    let by_round = median(without.iter().zip(with).map(|(without, with)| with / without));
    Row { attached, rate, ratio: rate.median / bare.median, by_round }
}

/// Rates without and with the program that descriptions attach for connections, in turn. Others on the machine are
/// noisier than what is to be seen, so the turns are short; and so the program is attached here, once Inlet has made
/// it: a commit takes as long.
fn connects(world: &World, lane: &Lane, rounds: usize, time: Budget<'_>) -> Result<[Vec<f64>; 3]> {
    const SHORT: Duration = Duration::from_millis(25);
    let programs = [None, Some(no_event()?), Some(program(world, lane)?)];
    let cgroups = File::open(cgroup_root()?)?;
    let mut rates = [Vec::new(), Vec::new(), Vec::new()];
    table::progress(format_args!("described: {rounds} rounds of connects"));
    time.samples(2, rounds + 1, |round| {
        for turn in 0..programs.len() {
            let with = (round + turn) % programs.len();
            let attach = |program: &OwnedFd| raw::attach(program.as_fd(), Hook::SockOps(cgroups.as_fd()));
            let link = programs[with].as_ref().map(attach).transpose()?;
            let rate = lane.client.enter(|| small::connects(lane, SHORT))?;
            drop(link);
            // The first round warms up.
            if round > 0 {
                rates[with].push(rate);
            }
        }
        Ok(())
    })?;
    Ok(rates)
}

/// The program that a description has the kernel run for every connection. It is not attached any more.
fn program(world: &World, lane: &Lane) -> Result<OwnedFd> {
    describe(world, lane, "other", Some(&["tcp:127.0.0.1:1"]))?;
    let link = raw::open_pin(&location(world, &lane.server)?.dir().join("described/listen"))?;
    let program = Program::fd_from_id(LinkInfo::from_fd(link.as_fd())?.prog_id)?;
    describe(world, lane, "other", None)?;
    Ok(program)
}

/// Where the control groups begin.
pub(super) fn cgroup_root() -> Result<String> {
    let mounts = std::fs::read_to_string("/proc/thread-self/mounts")?;
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found = mounts.find(|fields| fields.get(2) == Some(&"cgroup2")).ok_or("no cgroup2 is mounted")?;
    Ok(found[1].to_owned())
}

fn describe(world: &World, lane: &Lane, service: &str, listen: Option<&[&str]>) -> Result<()> {
    let described = |listen: &[&str]| -> Result<Description> {
        let listen = listen.iter().map(|listen| listen.parse()).collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(Description::new(listen)?)
    };
    let description = Some(listen.map(described).transpose()?);
    let request = ServiceRequest { description, ..ServiceRequest::default() };
    Instance::open(location(world, &lane.server)?)?.set_service(&service.parse()?, request)?;
    Ok(())
}

/// How long it takes, in ms, from before a socket is bound to its first datagram.
fn found(world: &World, lane: &Lane, inlet: &Path, binds: usize, time: Budget<'_>) -> Result<Vec<f64>> {
    table::progress(format_args!("described: {binds} binds"));
    let selector = Selector {
        protocol: Protocol::Udp,
        local: NET.parse()?,
        ports: TARGET.port().to_string().parse()?,
        source: None,
        iface: None,
        mark: None,
    };
    Instance::open(location(world, &lane.server)?)?.bind(&Target::Service("late".parse()?), &selector)?;
    describe(world, lane, "late", Some(&[&format!("udp:{BOUND}")]))?;
    let mut watch = Command::new(inlet);
    watch.arg("watch").arg("--bpffs").arg(world.bpffs.path()).stdout(Stdio::null());
    let client = lane.client.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
    client.connect(TARGET)?;
    lane.server.enter(|| {
        let _watching = inlet_testkit::Program::start(&mut watch)?;
        wait_for_watcher(world, lane)?;
        let mut times = Vec::new();
        time.samples(1, binds, |_| {
            times.push(first_datagram(&client)?);
            Ok(())
        })?;
        Ok(times)
    })
}

fn wait_for_watcher(world: &World, lane: &Lane) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while !Snapshot::open(location(world, &lane.server)?)?.is_watched()? {
        if Instant::now() > until {
            return Err("inlet watch did not begin".into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn first_datagram(client: &UdpSocket) -> Result<f64> {
    let begun = Instant::now();
    let socket = UdpSocket::bind(BOUND)?;
    loop {
        // Those that came too early are refused, which the next call returns as an error.
        let _ = client.send(&[0]);
        if poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&PAUSE))? > 0 {
            return Ok(begun.elapsed().as_secs_f64() * 1e3);
        }
        if begun.elapsed() > PATIENCE {
            return Err("inlet watch did not find a socket".into());
        }
    }
}

fn print(report: &Report) -> Result<()> {
    let row = |row: &Row| {
        let Spread { median, min, max } = row.rate;
        let rate = format!("{median:.0} ({min:.0}..{max:.0})");
        vec![row.attached.to_owned(), rate, format!("{:.3}", row.ratio), format!("{:.3}", row.by_round)]
    };
    let rows: Vec<_> = report.connects.iter().map(row).collect();
    let head = ["attached", "connects/s", "to nothing", "round by round"];
    table::print("Connections that no description means", &head, &rows)?;
    let Times { median, last, max } = &report.found_ms;
    let row = [median, last, max].map(|ms| format!("{ms:.2}"));
    let row = [vec!["bind() to the first datagram, ms".to_owned()], row.into()].concat();
    table::print("UDP sockets that inlet watch finds", &["", "median", "99th", "most"], &[row])?;
    Ok(())
}
