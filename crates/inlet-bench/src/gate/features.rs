//! Small rulesets that each need one feature of the lookup program, so that it is loaded with that feature alone.

use inlet::rules::image::Header;
use inlet::rules::{Builder, Mark, Prefix, Protocol, Rule, Verdict};

use crate::Result;
use crate::rules::{self, one, ports, prefix, service_name, v4, v6};

/// A feature, a ruleset that needs it, and how the image's header shows that it does.
pub(super) struct Feature {
    pub(super) name: &'static str,
    pub(super) fill: fn(&mut Builder) -> Result<()>,
    pub(super) needed: fn(&Header) -> bool,
}

/// All of them.
pub(super) const FEATURES: [Feature; 12] = [
    Feature { name: "IPv4", fill: one_v4, needed: |header| header.v4.used == 1 && header.v6.used == 0 },
    Feature { name: "IPv6", fill: one_v6, needed: |header| header.v4.used == 0 && header.v6.used == 1 },
    Feature { name: "both families", fill: both, needed: |header| header.v4.used == 1 && header.v6.used == 1 },
    Feature { name: "nested prefixes", fill: nested, needed: |header| header.hops == 32 },
    Feature { name: "sources", fill: sources, needed: |header| header.steps > 0 },
    Feature { name: "interface", fill: interface, needed: |header| header.steps > 0 },
    Feature { name: "mark", fill: mark, needed: |header| header.marks > 0 },
    Feature { name: "many ports", fill: many_ports, needed: |header| header.port_tables & 8 != 0 },
    Feature {
        name: "crowded IPv4",
        fill: crowded4,
        needed: |header| header.v4.more == 1 && header.levels > 0 && header.bisect == 0,
    },
    Feature {
        name: "crowded IPv6",
        fill: crowded6,
        needed: |header| header.v6.more == 1 && header.levels > 0 && header.bisect == 0,
    },
    Feature { name: "bisected", fill: bisected, needed: |header| header.bisect == 1 },
    Feature {
        name: "everything",
        fill: everything,
        needed: |header| {
            let families = header.v4.used == 1 && header.v6.used == 1;
            families && header.hops == 32 && header.steps > 0 && header.port_tables & 8 != 0 && header.bisect == 1
        },
    },
];

/// A rule for this prefix and port 443.
fn https(builder: &mut Builder, local: Prefix) -> Result<Rule> {
    let service = builder.service(&service_name(0))?;
    Ok(Rule::new(Protocol::Tcp, local, one(443), Verdict::Service(service)))
}

fn push(builder: &mut Builder, local: Prefix) -> Result<()> {
    let rule = https(builder, local)?;
    Ok(builder.push(&rule)?)
}

/// 192.0.2.0/24 and 2001:db8::/32: one rule each.
const NET4: u32 = 0xc000_0200;
const NET6: u128 = 0x2001_0db8 << 96;

fn one_v4(builder: &mut Builder) -> Result<()> {
    push(builder, prefix(v4(NET4, 24)))
}

fn one_v6(builder: &mut Builder) -> Result<()> {
    push(builder, prefix(v6(NET6, 32)))
}

fn both(builder: &mut Builder) -> Result<()> {
    one_v4(builder)?;
    one_v6(builder)
}

fn nested(builder: &mut Builder) -> Result<()> {
    rules::nested(32).fill(builder)
}

fn sources(builder: &mut Builder) -> Result<()> {
    let pairs = [
        (prefix(v4(NET4 + 0x100, 24)), prefix(v4(0x0a00_0000, 8))),
        (prefix(v6(NET6 + (1 << 95), 48)), prefix(v6(0xfd << 120, 8))),
    ];
    for (local, source) in pairs {
        let rule = https(builder, local)?;
        builder.push(&rule.from(source))?;
    }
    Ok(())
}

fn interface(builder: &mut Builder) -> Result<()> {
    let id = builder.interface_named(&"lo".parse()?)?;
    let rule = https(builder, prefix(v4(NET4 + 0x200, 24)))?;
    Ok(builder.push(&rule.on(id))?)
}

fn mark(builder: &mut Builder) -> Result<()> {
    let rule = https(builder, prefix(v4(NET4 + 0x400, 24)))?;
    Ok(builder.push(&rule.marked(Mark::new(1, 0xff)?))?)
}

fn many_ports(builder: &mut Builder) -> Result<()> {
    let service = builder.service(&service_name(0))?;
    for at in 0..1000 {
        let ports = ports(6 * at + 1, 6 * at + 4);
        let local = prefix(v4(NET4 + 0x300, 24));
        builder.push(&Rule::new(Protocol::Tcp, local, ports, Verdict::Service(service)))?;
    }
    Ok(())
}

/// Distances from an address of which there are as many in each power of two: what is near is ever more crowded.
fn ever_closer(bits: u32) -> impl Iterator<Item = u128> {
    const EACH: u128 = 16;
    (4..bits).flat_map(|bit| (0..EACH).map(move |at| (1 << bit) + (at << bit) / EACH))
}

fn crowded4(builder: &mut Builder) -> Result<()> {
    ever_closer(28).try_for_each(|distance| push(builder, prefix(v4(0x5000_0000 + distance as u32, 32))))
}

fn crowded6(builder: &mut Builder) -> Result<()> {
    ever_closer(32).try_for_each(|distance| push(builder, prefix(v6(NET6 + (2 << 88) + distance, 128))))
}

fn bisected(builder: &mut Builder) -> Result<()> {
    ever_closer(88).try_for_each(|distance| push(builder, prefix(v6(NET6 + (3 << 88) + distance, 128))))
}

fn everything(builder: &mut Builder) -> Result<()> {
    let all = [both, nested, sources, interface, many_ports, crowded4, crowded6, bisected];
    all.into_iter().try_for_each(|fill| fill(builder))
}
