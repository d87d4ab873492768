//! Grants: who may register sockets for a service, and add and remove rules to it, without the rights to change all.

use std::borrow::Cow;
use std::fmt;

use super::{Match, Ports, Prefix, Remedy, ServiceName, UnitName, UserName};

/// What somebody may do with one service: register sockets for it, and add and remove rules to it inside `local` and
/// `ports`. Without `local` no rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who may, when it is a user.
    pub user: Option<UserName>,
    /// Who may, when it is the processes of a unit. With a user it is who is both.
    pub unit: Option<UnitName>,
    /// The service.
    pub service: ServiceName,
    /// The prefixes inside which rules may be.
    pub local: Vec<Prefix>,
    /// The ports inside which rules may be.
    pub ports: Ports,
}

/// Why grants cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Nobody is named.
    #[error("a grant for service {0} names neither a user nor a unit")]
    Nobody(ServiceName),
    /// The service is not there.
    #[error("a grant names service {0}, which is not there")]
    NoService(ServiceName),
    /// Packets of one service could become those of another.
    #[error("grants for services {first} and {second} overlap in {prefix}")]
    Overlap {
        /// A service.
        first: ServiceName,
        /// The other one.
        second: ServiceName,
        /// What both may have rules for.
        prefix: Prefix,
    },
    /// There are too many.
    #[error("more than {max} grants", max = Grant::MAX)]
    TooMany,
}

impl Remedy for GrantError {
    fn remedy(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Nobody(_) => "say who with \"user\" or \"unit\"".into(),
            Self::NoService(_) => "list it under services, or leave the grant out".into(),
            Self::Overlap { .. } => "let them differ in prefixes or ports".into(),
            Self::TooMany => "grant wider prefixes".into(),
        })
    }
}

impl Grant {
    /// The most grants of a ruleset.
    pub const MAX: usize = 4096;

    /// Whether a rule with this match is inside it.
    pub fn covers(&self, matching: &Match) -> bool {
        let (first, last) = (matching.ports.first(), matching.ports.last());
        let ports = self.ports.ranges().iter().any(|range| range.first() <= first && last <= range.last());
        ports && self.local.iter().any(|prefix| prefix.covers(&matching.local))
    }

    /// A prefix in which both may have rules for the same ports. Those for one service are in nobody's way.
    fn overlap(&self, other: &Self) -> Option<Prefix> {
        let mut ranges = self.ports.ranges().iter();
        if self.service == other.service || !ranges.any(|a| other.ports.ranges().iter().any(|b| a.overlaps(*b))) {
            return None;
        }
        let inner = |a: &Prefix, b: &Prefix| match (a.covers(b), b.covers(a)) {
            (true, _) => Some(*b),
            (_, true) => Some(*a),
            _ => None,
        };
        self.local.iter().find_map(|a| other.local.iter().find_map(|b| inner(a, b)))
    }
}

/// Finds what keeps grants from being together.
pub(crate) fn check(grants: &[Grant], is_service: impl Fn(&ServiceName) -> bool) -> Result<(), GrantError> {
    if grants.len() > Grant::MAX {
        return Err(GrantError::TooMany);
    }
    for (number, grant) in grants.iter().enumerate() {
        if grant.user.is_none() && grant.unit.is_none() {
            return Err(GrantError::Nobody(grant.service.clone()));
        }
        if !is_service(&grant.service) {
            return Err(GrantError::NoService(grant.service.clone()));
        }
        if let Some((other, prefix)) = grants[..number].iter().find_map(|other| Some((other, other.overlap(grant)?))) {
            let (first, second) = (other.service.clone(), grant.service.clone());
            return Err(GrantError::Overlap { first, second, prefix });
        }
    }
    Ok(())
}

/// In words: `user www service web local 192.0.2.0/28 ports 80`.
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "user {} ", user.as_str())?;
        }
        if let Some(unit) = &self.unit {
            write!(f, "unit {} ", unit.as_str())?;
        }
        write!(f, "service {}", self.service)?;
        if self.local.is_empty() {
            return Ok(());
        }
        f.write_str(" local")?;
        self.local.iter().try_for_each(|prefix| write!(f, " {prefix}"))?;
        write!(f, " ports {}", self.ports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{Mark, Protocol};

    fn grant(service: &str, local: &[&str], ports: &str) -> Grant {
        let local = local.iter().map(|text| text.parse().unwrap()).collect();
        let (service, ports) = (service.parse().unwrap(), ports.parse().unwrap());
        Grant { user: Some("www".parse().unwrap()), unit: None, service, local, ports }
    }

    fn covers(grant: &Grant, local: &str, first: u16, last: u16) -> bool {
        let ports = crate::rule::PortRange::new(first, last).unwrap();
        let (source, iface, mark): (_, _, Option<Mark>) = (None, None, None);
        grant.covers(&Match { protocol: Protocol::Tcp, local: local.parse().unwrap(), ports, source, iface, mark })
    }

    #[test]
    fn what_is_inside() {
        let some = grant("web", &["192.0.2.0/28", "2001:db8::/64"], "80,8000-8999");
        assert!(covers(&some, "192.0.2.0/28", 80, 80) && covers(&some, "192.0.2.3", 8100, 8200));
        assert!(covers(&some, "2001:db8::1", 80, 80));
        assert!(!covers(&some, "192.0.2.0/27", 80, 80) && !covers(&some, "192.0.2.16", 80, 80));
        assert!(!covers(&some, "192.0.2.1", 80, 81) && !covers(&some, "192.0.2.1", 7999, 8000));
        assert!(!covers(&some, "192.0.2.1", 1, u16::MAX) && !covers(&grant("web", &[], "any"), "192.0.2.1", 80, 80));
    }

    #[test]
    fn grants_in_each_others_way() {
        let all = |_: &ServiceName| true;
        let check = |a: Grant, b: Grant| check(&[a, b], all);
        let one = || grant("one", &["192.0.2.0/24"], "1-100");
        assert!(matches!(check(one(), grant("two", &["192.0.2.128/25"], "80")), Err(GrantError::Overlap { .. })));
        assert!(matches!(check(grant("two", &["0.0.0.0/0"], "any"), one()), Err(GrantError::Overlap { .. })));
        assert_eq!(check(one(), grant("two", &["192.0.2.0/24"], "101")), Ok(()));
        assert_eq!(check(one(), grant("two", &["192.0.3.0/24", "::/0"], "any")), Ok(()));
        assert_eq!(check(one(), grant("one", &["192.0.2.0/24"], "any")), Ok(()));
        assert_eq!(check(one(), grant("two", &[], "any")), Ok(()));
        let nobody = Grant { user: None, ..one() };
        assert!(matches!(super::check(&[nobody], all), Err(GrantError::Nobody(_))));
        assert!(matches!(super::check(&[one()], |_| false), Err(GrantError::NoService(_))));
    }
}
