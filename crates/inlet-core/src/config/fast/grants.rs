//! Reads the grants of a JSON file.

use serde::Deserialize;

use super::values::{List, Text};
use crate::rule::{Grant, PortRange, Ports, Prefix, ServiceName, UnitName, UserName};

/// A grant as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantText {
    user: Option<Text<UserName>>,
    unit: Option<Text<UnitName>>,
    service: Text<ServiceName>,
    local: Option<List<Prefix>>,
    ports: Option<Text<Ports>>,
}

impl GrantText {
    /// The grant; `None` when it is to be read the slow way.
    pub(super) fn grant(self) -> Option<Grant> {
        let local = self.local.map(|local| local.values().to_vec()).unwrap_or_default();
        let ports = match self.ports {
            Some(_) if local.is_empty() => return None,
            Some(ports) => ports.0,
            None => Ports::from(PortRange::ANY),
        };
        let (user, unit) = (self.user.map(|user| user.0), self.unit.map(|unit| unit.0));
        Some(Grant { user, unit, service: self.service.0, local, ports })
    }
}
