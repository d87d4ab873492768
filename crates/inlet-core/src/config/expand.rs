//! Expands a rule with lists, and checks the ports that it excepts.

use crate::rule::{Family, IfaceId, Mark, Match, PortRange, Prefix, Protocol, Rule, Verdict};
use crate::ruleset::BuildError;

/// Everything of a rule in a file except its local prefixes and ports.
pub(super) struct Parts<'a> {
    pub(super) protocols: &'a [Protocol],
    /// The sources, or one `None`.
    pub(super) sources: &'a [Option<Prefix>],
    pub(super) iface: Option<IfaceId>,
    pub(super) mark: Option<Mark>,
}

impl Parts<'_> {
    /// Calls `each` with every combination.
    pub(super) fn expand<'p>(
        &self,
        local: impl Iterator<Item = &'p Prefix>,
        ports: impl Iterator<Item = (PortRange, Verdict)> + Clone,
        mut each: impl FnMut(&Rule) -> Result<(), BuildError>,
    ) -> Result<(), BuildError> {
        for local in local {
            for (ports, verdict) in ports.clone() {
                for protocol in self.protocols {
                    for source in self.sources {
                        let (protocol, local, source) = (*protocol, *local, *source);
                        let matching = Match { protocol, local, ports, source, iface: self.iface, mark: self.mark };
                        if matching.same_family() {
                            each(&Rule { matching, verdict })?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// The ports of a rule with its verdict, and the excepted ports with `pass`.
pub(super) fn with_verdicts<'a>(
    ports: impl Iterator<Item = &'a PortRange> + Clone,
    except: &'a [PortRange],
    verdict: Verdict,
) -> impl Iterator<Item = (PortRange, Verdict)> + Clone {
    let excepted = except.iter().map(|range| (*range, Verdict::Pass));
    ports.map(move |range| (*range, verdict)).chain(excepted)
}

/// Checks that each local prefix has a source of its family, and each source a local prefix. Lists may mix both
/// families, but no prefix may be left without a partner. Of a set a rule takes what is of its own family, so only
/// `given`, which the rule names itself, must have a partner.
pub(super) fn check_families<'p>(
    local: impl Iterator<Item = &'p Prefix> + Clone,
    sources: &[Option<Prefix>],
    mut given: impl Iterator<Item = Prefix>,
) -> Result<(), BuildError> {
    let sources = || sources.iter().flatten();
    let both = |family: Family| {
        let is = |prefix: &Prefix| prefix.family() == family;
        local.clone().any(is) && sources().any(is)
    };
    let shared: Vec<Family> = Family::ALL.into_iter().filter(|family| both(*family)).collect();
    if !shared.is_empty() && given.all(|prefix| shared.contains(&prefix.family())) {
        return Ok(());
    }
    for family in Family::ALL {
        let here = local.clone().find(|prefix| prefix.family() == family);
        let there = sources().find(|prefix| prefix.family() == family);
        let pair = match (here, there) {
            (Some(local), None) => sources().next().map(|source| (local, source)),
            (None, Some(source)) => local.clone().next().map(|local| (local, source)),
            _ => None,
        };
        if let Some((local, source_prefix)) = pair {
            return Err(BuildError::Families { local: *local, source_prefix: *source_prefix });
        }
    }
    Ok(())
}

/// Why a rule cannot except these ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExceptError {
    /// The rule does not have all of these ports.
    #[error("port {0} is not among the ports of the rule")]
    Outside(u16),
    /// The rule names a range that is as narrow.
    #[error("{except} is no narrower than {ports}, which the rule names; the narrower range decides")]
    Wider {
        /// The excepted ports.
        except: PortRange,
        /// The ports of the rule.
        ports: PortRange,
    },
}

/// Checks that a `pass` rule for these ports takes them out of the rule. It must be narrower than every range that it
/// overlaps.
pub(super) fn check_except<'a>(
    ports: impl Iterator<Item = &'a PortRange> + Clone,
    except: PortRange,
) -> Result<(), ExceptError> {
    let met = ports.filter(|range| range.overlaps(except));
    if let Some(ports) = met.clone().find(|range| range.width() <= except.width()) {
        return Err(ExceptError::Wider { except, ports: *ports });
    }
    // Each overlapping range covers some of the ports. Find the first port that none covers.
    let mut left = Some(except.first());
    while let Some(port) = left.filter(|port| *port <= except.last()) {
        let covering = met.clone().filter(|range| range.contains(port)).map(|range| range.last());
        match covering.max() {
            Some(last) => left = last.checked_add(1),
            None => return Err(ExceptError::Outside(port)),
        }
    }
    Ok(())
}

/// The sources of a rule without `from`: one `None`.
pub(super) const ANY_SOURCE: &[Option<Prefix>] = &[None];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ports: &[&str], except: &str) -> Result<(), ExceptError> {
        let ports: Vec<PortRange> = ports.iter().map(|text| text.parse().unwrap()).collect();
        check_except(ports.iter(), except.parse().unwrap())
    }

    #[test]
    fn excepted_ports_must_be_inside_and_narrower() {
        assert_eq!(check(&["any"], "22"), Ok(()));
        assert_eq!(check(&["any"], "9100-9110"), Ok(()));
        assert_eq!(check(&["1-100", "50-200"], "90-110"), Ok(()));
        assert_eq!(check(&["1-100", "101-65535"], "90-110"), Ok(()));
        assert_eq!(check(&["1-100"], "90-110"), Err(ExceptError::Outside(101)));
        assert_eq!(check(&["1-100", "103-200"], "90-110"), Err(ExceptError::Outside(101)));
        assert_eq!(check(&["1-100"], "200"), Err(ExceptError::Outside(200)));
        assert_eq!(check(&["80-90"], "any"), Err(wider("any", "80-90")));
        assert_eq!(check(&["22"], "22"), Err(wider("22", "22")));
        assert_eq!(check(&["any", "22"], "22"), Err(wider("22", "22")));
        assert_eq!(check(&["any", "20-30"], "10-40"), Err(wider("10-40", "20-30")));
        assert_eq!(check(&["any"], "any"), Err(wider("any", "any")));
    }

    fn wider(except: &str, ports: &str) -> ExceptError {
        ExceptError::Wider { except: except.parse().unwrap(), ports: ports.parse().unwrap() }
    }
}
