//! Several at once: writers take turns and lose nothing of each other; readers see a ruleset that was committed, whole.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::path::Path;
use std::thread;

use common::{Running, at, selector, snapshot, to, up};
use inlet::rules::{Builder, Protocol, Rule, Ruleset, Target, Verdict};
use inlet::{CommitOptions, Instance, Snapshot};
use inlet_testkit::World;

const RULES: u16 = 50;

/// How many rules name a service.
fn rules_of(ruleset: &Ruleset, service: &str) -> Vec<u16> {
    let id = ruleset.services().id(service);
    let is_it = |rule: &Rule| id.is_some_and(|id| rule.verdict == Verdict::Service(id));
    let mut ports: Vec<u16> = ruleset.rules().filter(is_it).map(|rule| rule.matching.ports.first()).collect();
    ports.sort_unstable();
    ports
}

/// Binds one rule after the other, each with a command of its own.
fn write(bpffs: &Path, service: &str) {
    let local = if service == "one" { "192.0.2.0/24" } else { "2001:db8::/64" };
    for port in 1..=RULES {
        let mut instance = Instance::open(at(bpffs)).unwrap();
        let before = instance.generation();
        let committed = instance.bind(&to(service), &selector(Protocol::Tcp, local, &port.to_string())).unwrap();
        assert_eq!(committed.generation, before + 1);
        assert_eq!(committed.plan.rules.len(), 1, "only its own rule");
    }
}

/// Reads until told to stop. Each rule was one commit, in order: what is seen never goes back, and fits its generation.
fn read(bpffs: &Path, running: &Running) -> u64 {
    let (mut seen, mut reads) = ([0, 0, 0], 0);
    while running.goes_on() || reads == 0 {
        let snapshot = Snapshot::open(at(bpffs)).unwrap();
        let [one, two] = ["one", "two"].map(|service| rules_of(snapshot.ruleset(), service));
        for ports in [&one, &two] {
            assert!(ports.iter().copied().eq(1..=ports.len() as u16), "{ports:?}");
        }
        let now = [snapshot.generation(), one.len() as u64, two.len() as u64];
        assert_eq!(now[0], 1 + now[1] + now[2]);
        assert!(now.iter().zip(&seen).all(|(now, seen)| now >= seen), "{seen:?}, then {now:?}");
        (seen, reads) = (now, reads + 1);
    }
    reads
}

#[test]
fn two_writers_are_serialised_and_readers_see_each_step_whole() {
    let Some(world) = World::new() else { return };
    drop(up(&world));
    let (bpffs, running) = (world.bpffs.path(), Running::new());
    thread::scope(|scope| {
        let reader = scope.spawn(|| read(bpffs, &running));
        {
            let _until_the_end = running.guard();
            // Threads are born into the namespaces of this one.
            let writers = ["one", "two"].map(|service| scope.spawn(move || write(bpffs, service)));
            writers.into_iter().for_each(|writer| writer.join().unwrap());
        }
        println!("{} reads", reader.join().unwrap());
    });
    let snapshot = snapshot(&world);
    assert_eq!(snapshot.generation(), 1 + 2 * u64::from(RULES));
    assert_eq!(["one", "two"].map(|service| rules_of(snapshot.ruleset(), service).len()), [usize::from(RULES); 2]);
    assert_eq!(common::tree(world.bpffs.path()), common::tree_of_one(&world, snapshot.generation()));
}

/// Many rules, all of one verdict: a mixture of two commits would show.
fn uniform(before: &Ruleset, verdict: Target) -> Builder {
    let mut builder = Builder::successor_of(before);
    let verdict = verdict.verdict(&mut builder).unwrap();
    for number in 0..2000_u32 {
        let local = std::net::IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + number)).into();
        builder.push(&Rule::new(Protocol::Udp, local, "any".parse().unwrap(), verdict)).unwrap();
    }
    builder
}

#[test]
fn a_large_ruleset_is_never_read_half() {
    let Some(world) = World::new() else { return };
    drop(up(&world));
    let (bpffs, running) = (world.bpffs.path(), Running::new());
    let (mut writes, targets) = (0_u64, [Target::Pass, Target::Refuse, to("web")]);
    thread::scope(|scope| {
        let _until_the_end = running.guard();
        let reader = scope.spawn(|| {
            let mut seen = std::collections::BTreeSet::new();
            while seen.len() < 3 && running.goes_on() {
                let snapshot = Snapshot::open(at(bpffs)).unwrap();
                let mut verdicts: Vec<Verdict> = snapshot.ruleset().rules().map(|rule| rule.verdict).collect();
                assert!([0, 2000].contains(&verdicts.len()));
                verdicts.dedup();
                assert!(verdicts.len() <= 1, "{verdicts:?}");
                seen.extend(verdicts);
            }
        });
        while !reader.is_finished() {
            let mut instance = Instance::open(at(bpffs)).unwrap();
            let builder = uniform(instance.ruleset().unwrap(), targets[(writes % 3) as usize].clone());
            instance.commit(builder.finish().unwrap(), &CommitOptions::default()).unwrap();
            writes += 1;
        }
        reader.join().unwrap();
    });
    assert!(writes >= 3);
}

/// One `up` of several is the one; the others are told so, and nothing of theirs is left.
#[test]
fn one_of_several_ups_wins() {
    let Some(world) = World::new() else { return };
    let bpffs = world.bpffs.path();
    let outcomes: Vec<_> = thread::scope(|scope| {
        let up = || Instance::up(at(bpffs), &inlet::UpOptions::default()).map(drop);
        let all: Vec<_> = (0..4).map(|_| scope.spawn(up)).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    let others = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    assert!(
        others.into_iter().all(|error| matches!(error, inlet::Error::State(inlet::StateError::AlreadyUp { .. }))),
        "{outcomes:?}"
    );
    assert_eq!(common::tree(bpffs), common::tree_of_one(&world, 1));
}

/// A change that was made for another generation than the one in force is refused, and changes nothing.
#[test]
fn a_change_for_another_generation_is_refused() {
    let Some(world) = World::new() else { return };
    let mut instance = up(&world);
    let seen = instance.generation();
    let expected = CommitOptions { expect_generation: Some(seen), ..CommitOptions::default() };
    let bind = |instance: &mut Instance, port: &str| {
        let rule = selector(Protocol::Tcp, "192.0.2.0/24", port);
        instance.carry_out(&inlet::Edit::Bind(to("web"), rule.clone()), &expected)
    };
    assert_eq!(bind(&mut instance, "80").unwrap().generation, seen + 1);
    let error = bind(&mut instance, "81").unwrap_err();
    let told = matches!(
        error,
        inlet::Error::Commit(inlet::CommitError::OtherGeneration { expected, generation })
            if expected == seen && generation == seen + 1
    );
    assert!(told, "{error:?}");
    assert_eq!((instance.generation(), instance.ruleset().unwrap().len()), (seen + 1, 1));
}
