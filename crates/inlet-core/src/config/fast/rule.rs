//! Reads one rule of a JSON file.

use std::borrow::Cow;

use rustc_hash::FxHashMap;
use serde::Deserialize;

use super::values::{List, Text};
use crate::config::expand::{ANY_SOURCE, Parts, check_except, check_families, with_verdicts};
use crate::config::keys::Plain;
use crate::config::sets::{PrefixOrSet, Sets};
use crate::rule::{InterfaceName, Mark, PortRange, Ports, Prefix, Protocol, ServiceId, Verdict};
use crate::ruleset::Builder;

/// A name in the text. An optional `Cow` alone would always be a copy.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The numbers of the services that rules have named, by the text of the name.
pub(super) type Known<'a> = FxHashMap<&'a str, ServiceId>;

/// A rule as it is written. Fields that few rules have are boxed, since every rule is moved.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleText<'a> {
    #[serde(borrow)]
    to: Option<Name<'a>>,
    verdict: Option<Text<Plain>>,
    protocol: List<Protocol>,
    local: List<PrefixOrSet>,
    ports: List<Ports>,
    except: Option<Box<List<Ports>>>,
    from: Option<Box<List<PrefixOrSet>>>,
    iface: Option<Box<Text<InterfaceName>>>,
    mark: Option<Box<Text<Mark>>>,
}

impl<'a> RuleText<'a> {
    /// Adds the rules that it stands for.
    pub(super) fn push_to(&self, builder: &mut Builder, sets: &Sets, known: &mut Known<'a>) -> Option<()> {
        let verdict = self.verdict(builder, known)?;
        let iface = self.iface.as_ref().map(|name| builder.interface_named(&name.0)).transpose().ok()?;
        let ports = self.ports.values().iter().flat_map(Ports::ranges);
        let except = self.except(ports.clone())?;
        let sources = self.sources(sets)?;
        let local: Option<Vec<&[Prefix]>>;
        let locals: &[&[Prefix]] = match self.local.values() {
            [one] => &[sets.prefixes(one)?],
            several => {
                local = several.iter().map(|prefix| sets.prefixes(prefix)).collect();
                local.as_deref()?
            }
        };
        let locals = locals.iter().flat_map(|prefixes| prefixes.iter());
        if self.from.is_some() {
            let from = self.from.iter().flat_map(|from| from.values());
            let given = self.local.values().iter().chain(from).filter_map(PrefixOrSet::prefix);
            check_families(locals.clone(), &sources, given).ok()?;
        }
        let mark = self.mark.as_ref().map(|mark| mark.0);
        let parts = Parts { protocols: self.protocol.values(), sources: &sources, iface, mark };
        parts.expand(locals, with_verdicts(ports, &except, verdict), |rule| builder.push(rule)).ok()
    }

    fn verdict(&self, builder: &mut Builder, known: &mut Known<'a>) -> Option<Verdict> {
        match (&self.to, &self.verdict) {
            (None, None) | (Some(_), Some(_)) => None,
            (None, Some(Text(plain))) => Some(plain.verdict()),
            (Some(Name(name)), None) => {
                if let Some(id) = known.get(name.as_ref()) {
                    return Some(Verdict::Service(*id));
                }
                let id = builder.service(&name.parse().ok()?).ok()?;
                if let Cow::Borrowed(name) = name {
                    known.insert(name, id);
                }
                Some(Verdict::Service(id))
            }
        }
    }

    fn except<'p>(&self, ports: impl Iterator<Item = &'p PortRange> + Clone) -> Option<Vec<PortRange>> {
        let Some(except) = &self.except else { return Some(Vec::new()) };
        let except: Vec<PortRange> = except.values().iter().flat_map(Ports::ranges).copied().collect();
        except.iter().all(|range| check_except(ports.clone(), *range).is_ok()).then_some(except)
    }

    fn sources(&self, sets: &Sets) -> Option<Cow<'static, [Option<Prefix>]>> {
        let Some(from) = &self.from else { return Some(ANY_SOURCE.into()) };
        let mut sources = Vec::new();
        for source in from.values() {
            sources.extend(sets.prefixes(source)?.iter().copied().map(Some));
        }
        Some(sources.into())
    }
}
