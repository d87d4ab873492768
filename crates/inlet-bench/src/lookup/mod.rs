//! What a lookup costs, by test runs: a program that does nothing, the trie, and Inlet's program in force.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use inlet::rules::{Builder, Packet};
use inlet::{CommitOptions, Instance, Location, Netns, UpOptions};
use inlet_testkit::World;
use serde::Serialize;

use crate::Result;
use crate::args::{Cli, LookupArgs};
use crate::baseline::Baseline;
use crate::cold::Displacer;
use crate::raw::{self, Context, ProgramInfo};
use crate::receivers::Receivers;
use crate::rules::{self, Families, RuleSet};
use crate::stats::median;
use crate::table;

/// The programs in the order of all arrays here: empty, trie, Inlet, and what both pay for giving.
const PROGRAMS: usize = 4;

/// How many packets are compared with the specification, which takes its time with many rules.
const SPECIFIED: usize = 15;

/// Nanoseconds above the program that does nothing.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cost {
    pub(crate) floor: f64,
    pub(crate) lpm: f64,
    pub(crate) inlet: f64,
    /// The part of both that no search can save: to give a packet to a socket.
    pub(crate) give: f64,
    /// Inlet against the trie.
    pub(crate) ratio: f64,
    /// The same of the searches alone, without what both pay to give.
    pub(crate) search_ratio: f64,
}

impl Cost {
    fn of([floor, lpm, inlet, give]: [f64; PROGRAMS]) -> Self {
        let (lpm, inlet, give) = (lpm - floor, inlet - floor, give - floor);
        Self { floor, lpm, inlet, give, ratio: inlet / lpm, search_ratio: (inlet - give) / (lpm - give) }
    }
}

/// What was measured with one ruleset.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) rules: usize,
    pub(crate) hot: Cost,
    /// Caches displaced, then all keys, each once.
    pub(crate) cold: Cost,
    /// Caches displaced before each key, and then another key asked: code and the map of sockets are in the caches.
    pub(crate) alone: Cost,
    /// Caches displaced before each key, and no more.
    pub(crate) all_cold: Cost,
    pub(crate) program: ProgramInfo,
    pub(crate) image_bytes: u64,
    pub(crate) trie_bytes: u64,
    pub(crate) commit_ms: f64,
    /// The share of packets for which Inlet chose a socket, and for which the trie did.
    pub(crate) assigned: [f64; 2],
}

/// All rows, and how they came about.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) displaced_mb: usize,
    pub(crate) displacement_ms: f64,
    pub(crate) cold_keys: usize,
    pub(crate) alone_keys: usize,
    pub(crate) hot_keys: usize,
}

/// Measures what the arguments say.
pub(crate) fn run(cli: &Cli, args: &LookupArgs) -> Result<Report> {
    let mut bench = Bench::new(args)?;
    table::progress(format_args!(
        "caches are displaced by walking {} MB, {:.1} ms each time",
        bench.displacer.megabytes(),
        bench.displacer.walk_ms()
    ));
    let mut rows = Vec::new();
    for (name, make) in sets(cli, args) {
        // A whole name, or the words that it begins with: "mix 100" is not "mix 1000".
        let wanted =
            |only: &String| name.strip_prefix(only.as_str()).is_some_and(|rest| !rest.starts_with(|c: char| c != ' '));
        if args.only.is_empty() || args.only.iter().any(wanted) {
            rows.push(bench.measure(&make())?);
        }
    }
    let LookupArgs { hot_keys, cold_keys, alone_keys, .. } = *args;
    let (displaced_mb, displacement_ms) = (bench.displacer.megabytes(), bench.displacer.walk_ms());
    let report = Report { rows, displaced_mb, displacement_ms, cold_keys, alone_keys, hot_keys };
    print(&report)?;
    Ok(report)
}

type Make = Box<dyn Fn() -> RuleSet>;

/// The rulesets by their names.
fn sets(cli: &Cli, args: &LookupArgs) -> Vec<(String, Make)> {
    let (size, large) = if cli.quick { (10_000, 100_000) } else { (100_000, 1_000_000) };
    let mut sets: Vec<(String, Make)> = Vec::new();
    for rules in args.sizes(cli) {
        sets.push((format!("mix {rules}"), Box::new(move || rules::mix(rules, Families::Both))));
    }
    let hard: [(&str, usize, Make); 9] = [
        ("host routes", size, Box::new(move || rules::hosts(size))),
        ("nested", 32, Box::new(move || rules::nested(32))),
        ("nested", size, Box::new(move || rules::nested(size))),
        ("port ranges", 10_000, Box::new(|| rules::ranges(10_000))),
        ("one /16", size, Box::new(move || rules::one_net(size))),
        ("v6 /32 sequential", size, Box::new(move || rules::one_net6(size, false))),
        ("v6 /32 random", size, Box::new(move || rules::one_net6(size, true))),
        ("v4 only", large, Box::new(move || rules::mix(large, Families::V4))),
        ("v6 only", large, Box::new(move || rules::mix(large, Families::V6))),
    ];
    if !args.mix_only {
        sets.extend(hard.into_iter().map(|(name, rules, make)| (format!("{name} {rules}"), make)));
    }
    sets
}

/// An instance in a world of its own, and what its program is compared with.
pub(crate) struct Bench<'a> {
    args: &'a LookupArgs,
    displacer: Displacer,
    receivers: Receivers,
    registered: bool,
    instance: Instance,
    world: World,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(args: &'a LookupArgs) -> Result<Self> {
        let world = World::try_new()?;
        let location = Location::new(world.bpffs.path(), Netns::own()?);
        let instance = Instance::up(location, &UpOptions::default())?;
        let receivers = Receivers::open()?;
        Ok(Self { args, displacer: Displacer::new(args.displace), receivers, registered: false, instance, world })
    }

    /// Puts a ruleset in force and measures it.
    pub(crate) fn measure(&mut self, set: &RuleSet) -> Result<Row> {
        table::progress(format_args!("lookup: {}", set.name));
        let baseline = Baseline::load(&set.rules, &self.receivers)?;
        let commit_ms = self.commit(set)?;
        let inlet = self.program_in_force()?;
        let programs = [baseline.empty.as_fd(), baseline.lpm.as_fd(), inlet.as_fd(), baseline.give.as_fd()];

        let packets = set.packets(self.args.hot_keys + self.args.cold_keys + self.args.alone_keys);
        let contexts: Vec<Context> = packets.iter().map(raw::context).collect();
        for (packet, context) in packets.iter().zip(&contexts).take(SPECIFIED) {
            self.check(programs[2], packet, context)?;
        }
        let (hot_keys, others) = contexts.split_at(self.args.hot_keys);
        let (cold_keys, alone_keys) = others.split_at(self.args.cold_keys);
        let assigned = [share_assigned(programs[2], &contexts)?, share_assigned(programs[1], &contexts)?];
        let row = Row {
            name: set.name.clone(),
            rules: set.rules.len(),
            hot: self.hot(programs, hot_keys)?,
            cold: self.cold(programs, cold_keys)?,
            alone: self.alone(programs, alone_keys, Warm::AnotherKey)?,
            all_cold: self.alone(programs, alone_keys, Warm::Nothing)?,
            program: raw::program_info(inlet.as_fd())?,
            image_bytes: self.image_bytes()?,
            trie_bytes: baseline.trie_bytes()?,
            commit_ms,
            assigned,
        };
        Ok(row)
    }

    /// Puts the rules in force and gives the milliseconds that it took.
    fn commit(&mut self, set: &RuleSet) -> Result<f64> {
        let mut builder = Builder::successor_of(self.instance.ruleset()?);
        set.fill(&mut builder)?;
        let started = Instant::now();
        self.instance.commit(builder.finish()?, &CommitOptions::default())?;
        let took = started.elapsed().as_secs_f64() * 1e3;
        if !self.registered {
            self.receivers.register(&mut self.instance)?;
            self.registered = true;
        }
        Ok(took)
    }

    /// Puts a ruleset in force and gives what the kernel says about the program.
    pub(crate) fn program_for(&mut self, fill: impl FnOnce(&mut Builder) -> Result<()>) -> Result<ProgramInfo> {
        let mut builder = Builder::successor_of(self.instance.ruleset()?);
        fill(&mut builder)?;
        self.instance.commit(builder.finish()?, &CommitOptions::default())?;
        Ok(raw::program_info(self.program_in_force()?.as_fd())?)
    }

    /// The program gives a packet to the service that the specification says.
    fn check(&self, program: BorrowedFd<'_>, packet: &Packet, context: &Context) -> Result<()> {
        let ruleset = self.instance.ruleset()?;
        let rule = inlet::rules::lookup(ruleset, packet).ok_or("no rule for a packet")?;
        let expected = ruleset.service_name(rule.verdict).map(|name| self.receivers.cookie(name, packet.protocol));
        let chosen = raw::test_run(program, context, 1)?.cookie;
        match expected.transpose()? == Some(chosen) {
            true => Ok(()),
            false => Err(format!("wrong answer for {packet:?}: {rule:?}, but socket {chosen} was chosen").into()),
        }
    }

    fn generation(&self) -> Result<std::path::PathBuf> {
        let dir = Location::new(self.world.bpffs.path(), Netns::own()?).dir();
        Ok(dir.join(format!("gen-{}", self.instance.generation())))
    }

    fn program_in_force(&self) -> Result<OwnedFd> {
        Ok(raw::open_pin(&self.generation()?.join("program"))?)
    }

    fn image_bytes(&self) -> Result<u64> {
        let image = raw::open_pin(&self.generation()?.join("image"))?;
        Ok(crate::baseline::map_memory(image.as_fd())?)
    }

    /// One key in a loop, the programs in turn: the median over keys of the medians over rounds.
    fn hot(&self, programs: [BorrowedFd<'_>; PROGRAMS], keys: &[Context]) -> Result<Cost> {
        let (rounds, repeat) = (self.args.rounds, self.args.repeat);
        let mut per_key: [Vec<f64>; PROGRAMS] = Default::default();
        for key in keys {
            let mut times: [Vec<f64>; PROGRAMS] = Default::default();
            for round in 0..rounds {
                for at in turn(round) {
                    // The kernel's own measure is in whole nanoseconds, which is too coarse here.
                    let started = raw::thread_seconds();
                    raw::test_run(programs[at], key, repeat)?;
                    times[at].push((raw::thread_seconds() - started) * 1e9 / f64::from(repeat));
                }
            }
            for (all, times) in per_key.iter_mut().zip(times) {
                all.push(median(times));
            }
        }
        Ok(Cost::of(per_key.map(median)))
    }

    /// The caches displaced, then all keys, each once, by one program; the programs in turn: the median over keys and
    /// passes.
    fn cold(&self, programs: [BorrowedFd<'_>; PROGRAMS], keys: &[Context]) -> Result<Cost> {
        let mut times: [Vec<f64>; PROGRAMS] = Default::default();
        for round in 0..self.args.passes {
            for at in turn(round) {
                self.displacer.walk();
                for key in keys {
                    times[at].push(raw::test_run(programs[at], key, 1)?.nanoseconds.into());
                }
            }
        }
        Ok(Cost::of(times.map(median)))
    }

    /// Each key once, the caches displaced before every single run: the median over keys.
    fn alone(&self, programs: [BorrowedFd<'_>; PROGRAMS], keys: &[Context], warm: Warm) -> Result<Cost> {
        let mut times: [Vec<f64>; PROGRAMS] = Default::default();
        for (round, pair) in keys.windows(2).enumerate() {
            for at in turn(round) {
                self.displacer.walk();
                if warm == Warm::AnotherKey {
                    raw::test_run(programs[at], &pair[0], 1)?;
                }
                times[at].push(raw::test_run(programs[at], &pair[1], 1)?.nanoseconds.into());
            }
        }
        Ok(Cost::of(times.map(median)))
    }
}

/// What is in the caches when a cold key is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Warm {
    Nothing,
    /// What one run for another key brought there: the code, and of the data what keys share.
    AnotherKey,
}

/// The programs in another order each round.
fn turn(round: usize) -> [usize; PROGRAMS] {
    std::array::from_fn(|at| (at + round) % PROGRAMS)
}

fn share_assigned(program: BorrowedFd<'_>, keys: &[Context]) -> Result<f64> {
    let mut assigned = 0;
    for key in keys {
        assigned += usize::from(raw::test_run(program, key, 1)?.cookie != 0);
    }
    Ok(assigned as f64 / keys.len() as f64)
}

fn print(report: &Report) -> Result<()> {
    let row = |row: &Row| {
        let cost = |cost: &Cost| [cost.lpm, cost.inlet].map(|ns| format!("{ns:.1}"));
        let [hot_lpm, hot_inlet] = cost(&row.hot);
        let [cold_lpm, cold_inlet] = cost(&row.cold);
        let [alone_lpm, alone_inlet] = cost(&row.alone);
        let [all_lpm, all_inlet] = cost(&row.all_cold);
        vec![
            row.name.clone(),
            hot_lpm,
            hot_inlet,
            format!("{:.3}", row.hot.ratio),
            format!("{:.3}", row.hot.search_ratio),
            cold_lpm,
            cold_inlet,
            format!("{:.3}", row.cold.ratio),
            alone_lpm,
            alone_inlet,
            format!("{:.3}", row.alone.ratio),
            all_lpm,
            all_inlet,
            format!("{:.3}", row.all_cold.ratio),
            row.program.verified_instructions.to_string(),
            row.program.jit_bytes.to_string(),
            format!("{:.1}", row.image_bytes as f64 / row.rules as f64),
            format!("{:.1}", row.trie_bytes as f64 / row.rules as f64),
            format!("{:.1}", row.commit_ms),
            format!("{:.0}/{:.0}", row.assigned[0] * 100.0, row.assigned[1] * 100.0),
        ]
    };
    let head = [
        "rules",
        "lpm hot",
        "inlet hot",
        "ratio",
        "search only",
        "lpm cold",
        "inlet cold",
        "ratio",
        "lpm alone",
        "inlet alone",
        "ratio",
        "lpm all cold",
        "inlet all cold",
        "ratio",
        "verified",
        "jit B",
        "B/rule",
        "lpm B/r",
        "commit ms",
        "% chosen",
    ];
    let middle = |cost: fn(&Row) -> f64| median(report.rows.iter().map(cost));
    let title = format!(
        "Lookup: ns above an empty program (hot {:.1}, cold {:.0}, alone {:.0}); to give to a socket takes (hot {:.1}, cold \
         {:.0}, alone {:.0});
{} hot keys, {} cold keys after {} MB were walked, {} keys alone, with a walk before each",
        middle(|row| row.hot.floor),
        middle(|row| row.cold.floor),
        middle(|row| row.alone.floor),
        middle(|row| row.hot.give),
        middle(|row| row.cold.give),
        middle(|row| row.alone.give),
        report.hot_keys,
        report.cold_keys,
        report.displaced_mb,
        report.alone_keys,
    );
    table::print(&title, &head, &report.rows.iter().map(row).collect::<Vec<_>>())?;
    Ok(())
}
