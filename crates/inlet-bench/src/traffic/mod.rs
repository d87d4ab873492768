//! What traffic costs: TCP connects, UDP datagrams and a bulk TCP stream through a veth pair, for several ways to bind.
//!
//! Each way has two network namespaces and a pair of its own. The rounds are interleaved, and what counts is the ratio
//! to the direct bind of the same round.

pub(crate) mod answers;
mod bulk;
pub(crate) mod described;
pub(crate) mod own;
pub(crate) mod setup;
mod small;
pub(crate) mod turns;

use std::time::Duration;

use inlet_testkit::World;
use libbpf_rs::ProgramType;
use serde::Serialize;

use crate::Result;
use crate::budget::Budget;
use crate::stats::Spread;
use crate::table;
use crate::traffic::setup::{Lane, Way};

/// What one way to bind made of one kind of traffic.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// A second: connects, datagrams, or gigabytes.
    pub(crate) rate: Spread,
    /// The rate against the direct bind of the same round.
    pub(crate) to_direct: Spread,
}

/// All of one way to bind.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) way: String,
    pub(crate) tcp: Figure,
    pub(crate) udp: Figure,
    pub(crate) bulk: Figure,
    /// Processor seconds of both threads and of the kernel's softirq threads a gigabyte.
    pub(crate) cpu_per_gb: Spread,
    /// Softirq seconds of the whole machine a gigabyte, from /proc/stat.
    pub(crate) softirq_per_gb: Spread,
}

/// Rates of all rounds of one way.
#[derive(Debug, Default)]
struct Rounds {
    tcp: Vec<f64>,
    udp: Vec<f64>,
    bulk: Vec<bulk::Bulk>,
}

/// Measures all ways, in this time.
pub(crate) fn run(quick: bool, time: Budget<'_>) -> Result<Vec<Row>> {
    let (rounds, many) = if quick { (15, 100_000) } else { (45, 1_000_000) };
    let world = World::try_new()?;
    let inlet = [Way::Inlet(1), Way::Inlet(many)];
    let mut ways = vec![Way::Direct, Way::EmptyHook, Way::Wildcard, inlet[0], inlet[1], Way::Iptables, Way::Nftables];
    // An older kernel has no marks.
    if ProgramType::Netfilter.is_supported()? {
        ways.insert(3, Way::Marked);
    }
    let lanes = ways.iter().map(|way| Lane::set_up(*way, &world)).collect::<Result<Vec<_>>>()?;
    let mut measured: Vec<Rounds> = ways.iter().map(|_| Rounds::default()).collect();
    let taken = time.samples(2, rounds + 1, |round| {
        table::progress(format_args!("traffic: round {round} of {rounds}"));
        for at in 0..lanes.len() {
            let at = (at + round) % lanes.len();
            let rates = one_round(&lanes[at])?;
            // The first round warms up.
            if round > 0 {
                measured[at].tcp.push(rates.0);
                measured[at].udp.push(rates.1);
                measured[at].bulk.push(rates.2);
            }
        }
        Ok(())
    })?;
    let rows: Vec<Row> = ways.iter().zip(&measured).map(|(way, rounds)| row(*way, rounds, &measured[0])).collect();
    print(&rows, taken - 1)?;
    Ok(rows)
}

fn one_round(lane: &Lane) -> Result<(f64, f64, bulk::Bulk)> {
    // What else the machine does is noisier than what is to be seen, and goes on for longer than this.
    const SHORT: Duration = Duration::from_millis(100);
    let failed = |error| format!("{}: {error}", lane.way.label());
    lane.client.enter(|| {
        let tcp = small::connects(lane, SHORT).map_err(failed)?;
        let udp = small::datagrams(lane, SHORT).map_err(failed)?;
        let bulk = bulk::stream(lane.target, &lane.tcp, SHORT).map_err(failed)?;
        Ok((tcp, udp, bulk))
    })
}

fn row(way: Way, rounds: &Rounds, direct: &Rounds) -> Row {
    let gigabytes = |rounds: &Rounds| rounds.bulk.iter().map(|bulk| bulk.gigabytes_a_second).collect::<Vec<_>>();
    let of_bulk = |what: fn(&bulk::Bulk) -> f64| Spread::of(&rounds.bulk.iter().map(what).collect::<Vec<_>>());
    Row {
        way: way.label(),
        tcp: figure(&rounds.tcp, &direct.tcp),
        udp: figure(&rounds.udp, &direct.udp),
        bulk: figure(&gigabytes(rounds), &gigabytes(direct)),
        cpu_per_gb: of_bulk(|bulk| bulk.cpu_per_gb),
        softirq_per_gb: of_bulk(|bulk| bulk.softirq_per_gb),
    }
}

fn figure(rates: &[f64], direct: &[f64]) -> Figure {
    let ratios: Vec<f64> = rates.iter().zip(direct).map(|(rate, direct)| rate / direct).collect();
    Figure { rate: Spread::of(rates), to_direct: Spread::of(&ratios) }
}

fn print(rows: &[Row], rounds: usize) -> Result<()> {
    let ratio = |spread: Spread| format!("{:.3} ({:.2}..{:.2})", spread.median, spread.min, spread.max);
    let row = |row: &Row| {
        vec![
            row.way.clone(),
            format!("{:.0}", row.tcp.rate.median),
            ratio(row.tcp.to_direct),
            format!("{:.0}", row.udp.rate.median),
            ratio(row.udp.to_direct),
            format!("{:.2}", row.bulk.rate.median),
            ratio(row.bulk.to_direct),
            format!("{:.3} ({:.2}..{:.2})", row.cpu_per_gb.median, row.cpu_per_gb.min, row.cpu_per_gb.max),
            format!("{:.3}", row.softirq_per_gb.median),
        ]
    };
    let head = [
        "way",
        "connects/s",
        "to direct",
        "datagrams/s",
        "to direct",
        "bulk GB/s",
        "to direct",
        "cpu s/GB",
        "softirq s/GB",
    ];
    let title = format!(
        "Traffic through a veth pair: medians of {rounds} rounds, ratios to the direct bind of the same round with their spread"
    );
    table::print(&title, &head, &rows.iter().map(row).collect::<Vec<_>>())?;
    Ok(())
}
