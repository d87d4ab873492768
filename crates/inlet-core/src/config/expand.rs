//! What a rule with lists stands for, and the ports that it excepts.

use crate::rule::{IfaceId, Match, PortRange, Prefix, Protocol, Rule, Verdict};
use crate::ruleset::BuildError;

/// All of a rule but its local prefixes and ports.
pub(super) struct Parts<'a> {
    pub(super) protocols: &'a [Protocol],
    /// Each source, or once none.
    pub(super) sources: &'a [Option<Prefix>],
    pub(super) iface: Option<IfaceId>,
}

impl Parts<'_> {
    /// Gives `each` every combination: the ports with their verdict, and those that are excepted with `pass`.
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
                        let (protocol, local, source, iface) = (*protocol, *local, *source, self.iface);
                        let matching = Match { protocol, local, ports, source, iface };
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

/// The ports of a rule with its verdict, and those that it excepts with `pass`.
pub(super) fn with_verdicts<'a>(
    ports: impl Iterator<Item = &'a PortRange> + Clone,
    except: &'a [PortRange],
    verdict: Verdict,
) -> impl Iterator<Item = (PortRange, Verdict)> + Clone {
    let excepted = except.iter().map(|range| (*range, Verdict::Pass));
    ports.map(move |range| (*range, verdict)).chain(excepted)
}

/// A local prefix without any source of its family, or a source without any local prefix of its own: rules of one list
/// may be about both families, but none for nothing. Of a set a rule takes what is of its own family, so only `given`,
/// which the
/// rule names itself, must have a part in it.
pub(super) fn check_families<'p>(
    local: impl Iterator<Item = &'p Prefix> + Clone,
    sources: &[Option<Prefix>],
    mut given: impl Iterator<Item = Prefix>,
) -> Result<(), BuildError> {
    let sources = || sources.iter().flatten();
    let both =
        |v6: bool| local.clone().any(|prefix| prefix.is_v6() == v6) && sources().any(|prefix| prefix.is_v6() == v6);
    let shared = [both(false), both(true)];
    if shared.contains(&true) && given.all(|prefix| shared[usize::from(prefix.is_v6())]) {
        return Ok(());
    }
    let lonely = |prefix: &Prefix, v6: bool| prefix.is_v6() == v6;
    for v6 in [false, true] {
        let here = local.clone().find(|prefix| lonely(prefix, v6));
        let there = sources().find(|prefix| lonely(prefix, v6));
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

/// Why ports cannot be excepted from a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExceptError {
    /// The rule is not about all of them anyway.
    #[error("port {0} is not among the ports of the rule")]
    Outside(u16),
    /// The rule names them, or some of them, as exactly.
    #[error("{except} is no narrower than {ports}, which the rule names; the narrower range decides")]
    Wider {
        /// The ports excepted.
        except: PortRange,
        /// Those of the rule.
        ports: PortRange,
    },
}

/// Whether a `pass` rule for these ports takes them out of the rule: it must be narrower than every range that it
/// meets.
pub(super) fn check_except<'a>(
    ports: impl Iterator<Item = &'a PortRange> + Clone,
    except: PortRange,
) -> Result<(), ExceptError> {
    let met = ports.filter(|range| range.overlaps(except));
    if let Some(ports) = met.clone().find(|range| range.width() <= except.width()) {
        return Err(ExceptError::Wider { except, ports: *ports });
    }
    // Each range that is met covers some of the ports; the first port that none covers, if any.
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

/// The sources of a rule without `from`: once none.
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
