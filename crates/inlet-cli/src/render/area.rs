//! Areas of packets and claims to them, in words and as JSON.

use inlet::rules::{Area, Claim, Ruleset};
use serde::Serialize;

use super::grouped;
use super::join::adjacent;

/// How many exceptions a line names.
const NAMED: usize = 8;

#[derive(Serialize)]
pub(crate) struct AreaReport {
    protocol: &'static str,
    local: String,
    ports: String,
    from: Option<String>,
    iface: Option<String>,
    mark: Option<String>,
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
        mark: area.mark.map(|mark| mark.to_string()),
    }
}

pub(crate) fn claim_report(ruleset: &Ruleset, claim: &Claim) -> ClaimReport {
    ClaimReport {
        area: area_report(ruleset, &claim.area),
        except: claim.except.iter().map(|except| area_report(ruleset, except)).collect(),
        more_exceptions: claim.more,
    }
}

/// The exceptions of a claim, each by what differs from the claim. Those that are another prefix and no more are
/// joined.
pub(crate) fn exceptions(ruleset: &Ruleset, claim: &Claim) -> String {
    let area = &claim.area;
    let is_prefix = |except: &&Area| Area { local: area.local, ..**except } == *area;
    let (prefixes, others): (Vec<&Area>, Vec<&Area>) = claim.except.iter().partition(is_prefix);
    let prefixes = adjacent(prefixes.into_iter().map(|except| except.local.into()).collect());
    let named = prefixes.iter().map(ToString::to_string).chain(others.iter().map(|it| exception(ruleset, area, it)));
    let mut named: Vec<String> = named.take(NAMED).collect();
    let more = prefixes.len() + others.len() - named.len() + claim.more;
    if more > 0 {
        named.push(format!("and {} more", grouped(more as u64)));
    }
    named.join(", ")
}

fn exception(ruleset: &Ruleset, area: &Area, except: &Area) -> String {
    let parts = [
        (except.local != area.local).then(|| except.local.to_string()),
        (except.ports != area.ports).then(|| except.ports.to_string()),
    ];
    let words: Vec<String> = parts.into_iter().flatten().collect();
    let source = except.source.filter(|_| except.source != area.source);
    let ifindex = except.ifindex.filter(|_| except.ifindex != area.ifindex);
    let mark = except.mark.filter(|_| except.mark != area.mark);
    format!("{}{}", words.join(" "), conditions(ruleset, &Area { source, ifindex, mark, ..*except })).trim().to_owned()
}

/// Whether the words of [`exceptions`] name all of them.
pub(crate) fn is_whole(claim: &Claim) -> bool {
    claim.more == 0 && claim.except.len() <= NAMED
}

fn conditions(ruleset: &Ruleset, area: &Area) -> String {
    let source = area.source.map_or_else(String::new, |source| format!(" from {source}"));
    let iface = area.ifindex.map_or_else(String::new, |index| format!(" on {}", interface(ruleset, index)));
    let mark = area.mark.map_or_else(String::new, |mark| format!(" mark {mark}"));
    source + &iface + &mark
}

/// The name of an interface, as far as rules name it.
pub(crate) fn interface(ruleset: &Ruleset, index: u32) -> String {
    let known = ruleset.interfaces().iter().find(|interface| interface.index == index);
    known.map_or_else(|| format!("interface {index}"), |interface| interface.name.to_string())
}
