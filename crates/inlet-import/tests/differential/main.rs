//! Random rulesets of iptables with ipset, and of nftables: who gets each of many packets by the firewall in the
//! kernel, and by
//! the rules that the import makes of what was saved. Where everything was translated it is the same; where something
//! was not, the
//! rules steer nothing that the firewall did not.
//!
//! INLET_SEED gives another seed, INLET_RULESETS another number of rulesets of each kind; INLET_RULESET has only the
//! ruleset of the
//! seed that a failure names, again and again.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod iptables;
mod nft;
mod random;
mod world;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use inlet_core::config::{self, Host, Source};
use inlet_core::{InterfaceName, Packet, Protocol, Ruleset, Verdict, lookup};
use inlet_import::{Imported, Surroundings, tproxy};
use inlet_testkit::{require_program, require_root};

use self::random::Random;
use self::world::{IFACES, LOCALS, PORTS, Probe, SOURCES, SPECIAL, SPECIAL_PORT, World};

/// Rulesets of each kind, and packets for each.
const RULESETS: usize = 160;
const PACKETS: usize = 60;
/// How often a difference must show.
const ATTEMPTS: usize = 3;

struct Interfaces;

impl Host for Interfaces {
    fn real_path(&mut self, path: &Path) -> Result<PathBuf, String> {
        Err(format!("no {}", path.display()))
    }

    fn read(&mut self, path: &Path) -> Result<String, String> {
        Err(format!("no {}", path.display()))
    }

    fn interface(&mut self, name: &InterfaceName) -> Result<u32, inlet_core::config::NoInterface> {
        let number = IFACES.iter().position(|iface| *iface == name.as_str());
        Ok(number.map_or(99, |number| number as u32 + 1))
    }
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn probe(random: &mut Random) -> Probe {
    let (client, v6) = (random.below(2), usize::from(random.percent(30)));
    let source = random.of(SOURCES[client][v6]).parse().unwrap();
    let to = SocketAddr::new(random.of(LOCALS[v6]).parse().unwrap(), random.of(&PORTS));
    Probe { protocol: random.of(&Protocol::ALL), client, source, to }
}

/// Who gets a packet by the rules of the import; nobody when they refuse.
fn by_import(ruleset: &Ruleset, probe: &Probe) -> Option<String> {
    let remote = SocketAddr::new(probe.source, 40000);
    let packet =
        Packet { protocol: probe.protocol, local: probe.to, remote, ifindex: probe.client as u32 + 1, mark: Some(0) };
    match lookup(ruleset, &packet).map(|rule| rule.verdict) {
        Some(verdict @ Verdict::Service(_)) => ruleset.service_name(verdict).map(ToString::to_string),
        Some(Verdict::Refuse) => None,
        Some(Verdict::Pass) | None => {
            let special =
                probe.to.port() == SPECIAL_PORT && SPECIAL.iter().any(|addr| *addr == probe.to.ip().to_string());
            Some(if special { "special" } else { "ordinary" }.to_owned())
        }
    }
}

fn toml(imported: &Imported) -> String {
    let mut text = Vec::new();
    imported.write_toml(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// A kind of firewall.
struct Kind {
    name: &'static str,
    /// A ruleset: what is loaded by which command.
    make: fn(&mut Random) -> Vec<(&'static str, String)>,
    save: &'static [&'static str],
    unload: &'static [&'static str],
}

#[derive(Debug, Default)]
struct Counts {
    refused: usize,
    rulesets: usize,
    whole: usize,
    packets: usize,
    steered: usize,
}

fn compare(kind: &Kind) {
    let programs = ["iptables-restore", "ipset", "nft"];
    if !require_root() || !programs.iter().all(|program| require_program(program)) {
        return;
    }
    let seed = number("INLET_SEED", 20_261_128);
    let wanted = number("INLET_RULESETS", RULESETS as u64) as usize;
    let world = World::new();
    let mut counts = Counts::default();
    let mut random = Random::new(seed);
    let only = std::env::var("INLET_RULESET").ok();
    let only = only.map(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap());
    while counts.rulesets < wanted {
        let next = random.next();
        one(kind, &world, only.unwrap_or(next), &mut counts);
    }
    eprintln!("{}, seed {seed}: {counts:?}", kind.name);
    assert!(counts.whole * 2 > counts.rulesets, "half of the rulesets are translated whole: {counts:?}");
    assert!(counts.steered * 6 > counts.packets, "a sixth of the packets is steered: {counts:?}");
}

fn one(kind: &Kind, world: &World, seed: u64, counts: &mut Counts) {
    let mut random = Random::new(seed);
    let loads = (kind.make)(&mut random);
    let text: String = loads.iter().map(|(command, text)| format!("# {command}\n{text}\n")).collect();
    let context = format!("{} ruleset of seed {seed:#x}:\n{text}", kind.name);
    let unload = || {
        for command in kind.unload {
            // The kernel lets go of sets a moment after the rules went that name them.
            let start = Instant::now();
            while let Err(error) = world.run(command, "") {
                assert!(start.elapsed() < Duration::from_secs(5), "{command}: {error}");
            }
        }
    };
    // The grammar allows what the firewall does not, such as two protocols in one rule.
    if let Some(error) = loads.iter().find_map(|(command, input)| world.run(command, input).err()) {
        counts.refused += 1;
        assert!(counts.refused <= counts.rulesets + 20, "the firewall takes too few rulesets: {error}\n{context}");
        return unload();
    }
    let saved: String = kind.save.iter().map(|command| world.run(command, "").unwrap()).collect();
    let interfaces = Some(["lo"].iter().chain(&IFACES).map(ToString::to_string).collect());
    let around = Surroundings { sets: String::new(), listeners: Some(world.listeners.clone()), interfaces };
    let imported = match tproxy(&saved, &around) {
        Ok(imported) => imported,
        Err(inlet_import::ImportError::Nothing) => return unload(),
        Err(error) => panic!("{error}\n{context}\n{saved}"),
    };
    let file = toml(&imported);
    let parsed = config::parse(Source::new("imported", file.clone()), &Ruleset::empty(), &mut Interfaces);
    let ruleset = parsed.unwrap_or_else(|found| panic!("{context}\n{file}\n{found}")).ruleset;
    let whole = imported.left.iter().all(|left| !left.todo);
    let probes: Vec<Probe> = (0..PACKETS).map(|_| probe(&mut random)).collect();
    let expected: Vec<Option<String>> = probes.iter().map(|probe| by_import(&ruleset, probe)).collect();
    let steered = |name: &Option<String>| name.as_ref().is_some_and(|name| name.starts_with("tproxy"));
    // Where something was not translated, only what the rules steer must arrive.
    let somebody = |expected: &Option<String>| if whole { expected.is_some() } else { steered(expected) };
    let somebody: Vec<bool> = expected.iter().map(somebody).collect();
    let mut asked: Vec<usize> = (0..probes.len()).collect();
    let mut differences = Vec::new();
    // A packet can get lost on a busy machine: what differs is asked once more, and again.
    for _ in 0..ATTEMPTS {
        let of = |list: &[bool]| asked.iter().map(|number| list[*number]).collect::<Vec<_>>();
        let some: Vec<Probe> = asked.iter().map(|number| probes[*number]).collect();
        let got = world.ask(&some, &of(&somebody));
        differences = asked.iter().copied().zip(got).collect();
        differences.retain(|(number, got)| match whole {
            true => expected[*number] != *got,
            false => steered(&expected[*number]) && expected[*number] != *got,
        });
        asked = differences.iter().map(|(number, _)| *number).collect();
        if asked.is_empty() {
            break;
        }
    }
    if let Some((number, got)) = differences.first() {
        let (probe, expected, left) = (&probes[*number], &expected[*number], &imported.left);
        panic!("{probe:?}: firewall {got:?}, import {expected:?}\n{context}\n{file}\n{left:?}");
    }
    counts.steered += expected.iter().filter(|name| steered(name)).count();
    counts.rulesets += 1;
    counts.whole += usize::from(whole);
    counts.packets += probes.len();
    unload();
}

#[test]
fn iptables_with_ipset() {
    compare(&Kind {
        name: "iptables",
        make: iptables::ruleset,
        save: &["iptables-save", "ip6tables-save", "ipset save"],
        unload: &[
            "iptables -t mangle -F",
            "ip6tables -t mangle -F",
            "iptables -t mangle -X",
            "ip6tables -t mangle -X",
            "ipset flush",
            "ipset destroy",
        ],
    });
}

#[test]
fn nftables() {
    compare(&Kind { name: "nft", make: nft::ruleset, save: &["nft -j list ruleset"], unload: &["nft flush ruleset"] });
}
