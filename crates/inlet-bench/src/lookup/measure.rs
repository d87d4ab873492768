//! The measuring: an instance whose program in force is run for made-up packets, beside the programs it is compared
//! with.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use inlet::rules::{Builder, Packet};
use inlet::{CommitOptions, Instance, Location, Netns, UpOptions};
use inlet_testkit::World;

use super::{Cost, PROGRAMS, Row, Times};
use crate::Result;
use crate::args::LookupArgs;
use crate::baseline::Baseline;
use crate::budget::{self, Budget};
use crate::cold::Displacer;
use crate::raw::{self, Context, ProgramInfo};
use crate::receivers::Receivers;
use crate::rules::RuleSet;
use crate::stats::median;
use crate::table;

/// How many packets are compared with the specification, which takes its time with many rules.
const SPECIFIED: usize = 15;

/// So many keys alone make a figure.
const FEWEST: usize = 5;

type Programs<'a> = [BorrowedFd<'a>; PROGRAMS];

/// An instance in a world of its own, and what its program is compared with.
pub(crate) struct Bench<'a> {
    args: &'a LookupArgs,
    pub(super) displacer: Displacer,
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

    /// Puts a ruleset in force and measures it, in this time.
    pub(crate) fn measure(&mut self, set: &RuleSet, time: Budget<'_>) -> Result<Row> {
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
            hot: self.hot(programs, hot_keys, time.share(budget::HOT))?,
            cold: self.cold(programs, cold_keys, time.share(budget::COLD))?,
            alone: self.alone(programs, alone_keys, Warm::AnotherKey, time.share(budget::ALONE))?,
            all_cold: self.alone(programs, alone_keys, Warm::Nothing, time)?,
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
    fn hot(&self, programs: Programs<'_>, keys: &[Context], time: Budget<'_>) -> Result<Cost> {
        let (rounds, repeat) = (self.args.rounds, self.args.repeat);
        let mut per_key: Times = Default::default();
        time.samples(1, keys.len(), |key| {
            let mut times: Times = Default::default();
            for round in 0..rounds {
                for at in turn(round) {
                    // The kernel's own measure is in whole nanoseconds, which is too coarse here.
                    let started = raw::thread_seconds();
                    raw::test_run(programs[at], &keys[key], repeat)?;
                    times[at].push((raw::thread_seconds() - started) * 1e9 / f64::from(repeat));
                }
            }
            for (all, times) in per_key.iter_mut().zip(times) {
                all.push(median(times));
            }
            Ok(())
        })?;
        Ok(Cost::of(per_key))
    }

    /// The caches displaced, then all keys, each once, by one program; the programs in turn: the median over keys and
    /// passes.
    fn cold(&self, programs: Programs<'_>, keys: &[Context], time: Budget<'_>) -> Result<Cost> {
        let mut times: Times = Default::default();
        time.samples(0, self.args.passes, |pass| {
            for at in turn(pass) {
                self.displacer.walk();
                for key in keys {
                    times[at].push(raw::test_run(programs[at], key, 1)?.nanoseconds.into());
                }
            }
            Ok(())
        })?;
        Ok(Cost::of(times))
    }

    /// Each key once, the caches displaced before every single run: the median over keys.
    fn alone(&self, programs: Programs<'_>, keys: &[Context], warm: Warm, time: Budget<'_>) -> Result<Cost> {
        let mut times: Times = Default::default();
        let pairs: Vec<&[Context]> = keys.windows(2).collect();
        let taken = time.samples(0, pairs.len(), |number| {
            let pair = pairs[number];
            for at in turn(number) {
                self.displacer.walk();
                if warm == Warm::AnotherKey {
                    raw::test_run(programs[at], &pair[0], 1)?;
                }
                times[at].push(raw::test_run(programs[at], &pair[1], 1)?.nanoseconds.into());
            }
            Ok(())
        })?;
        // The median of less says nothing: then there is no figure.
        Ok(Cost::of(if taken < FEWEST { Times::default() } else { times }))
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
