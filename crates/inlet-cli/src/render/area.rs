//! Areas of packets and claims to them, in words and as JSON.

use inlet::core::{Area, Claim, Ruleset};
use serde::Serialize;

use super::counted;

/// How many exceptions a line names.
const NAMED: usize = 4;

#[derive(Serialize)]
pub(crate) struct AreaReport {
    protocol: &'static str,
    local: String,
    ports: String,
    from: Option<String>,
    iface: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct ClaimReport {
    #[serde(flatten)]
    area: AreaReport,
    except: Vec<AreaReport>,
    more_exceptions: usize,
}

pub(crate) fn area_report(ruleset: &Ruleset, area: &Area) -> AreaReport {
    AreaReport {
        protocol: area.protocol.as_str(),
        local: area.local.to_string(),
        ports: area.ports.to_string(),
        from: area.source.map(|source| source.to_string()),
        iface: area.ifindex.map(|index| interface(ruleset, index)),
    }
}

pub(crate) fn claim_report(ruleset: &Ruleset, claim: &Claim) -> ClaimReport {
    ClaimReport {
        area: area_report(ruleset, &claim.area),
        except: claim.except.iter().map(|except| area_report(ruleset, except)).collect(),
        more_exceptions: claim.more,
    }
}

/// An area without its protocol: `192.0.2.0/24 80 from 203.0.113.0/24 on eth0`.
pub(crate) fn area(ruleset: &Ruleset, area: &Area) -> String {
    format!("{} {}{}", area.local, area.ports, conditions(ruleset, area))
}

/// The exceptions of a claim, each by what tells it from the claim.
pub(crate) fn exceptions(ruleset: &Ruleset, claim: &Claim) -> String {
    let one = |except: &Area| {
        let parts = [
            (except.local != claim.area.local).then(|| except.local.to_string()),
            (except.ports != claim.area.ports).then(|| except.ports.to_string()),
        ];
        let words: Vec<String> = parts.into_iter().flatten().collect();
        let source = except.source.filter(|_| except.source != claim.area.source);
        let ifindex = except.ifindex.filter(|_| except.ifindex != claim.area.ifindex);
        format!("{}{}", words.join(" "), conditions(ruleset, &Area { source, ifindex, ..*except })).trim().to_owned()
    };
    let mut named: Vec<String> = claim.except.iter().take(NAMED).map(one).collect();
    let more = claim.except.len().saturating_sub(NAMED) + claim.more;
    if more > 0 {
        named.push(format!("{more} more"));
    }
    named.join(", ")
}

fn conditions(ruleset: &Ruleset, area: &Area) -> String {
    let source = area.source.map_or_else(String::new, |source| format!(" from {source}"));
    let iface = area.ifindex.map_or_else(String::new, |index| format!(" on {}", interface(ruleset, index)));
    source + &iface
}

/// The name of an interface, as far as rules name it.
fn interface(ruleset: &Ruleset, index: u32) -> String {
    let known = ruleset.interfaces().iter().find(|interface| interface.index == index);
    known.map_or_else(|| format!("interface {index}"), |interface| interface.name.to_string())
}

/// What is left out of a list.
pub(crate) fn and_more(more: usize, noun: &str) -> String {
    format!("and {} (all with --json)", counted(more, &format!("more {noun}")))
}
