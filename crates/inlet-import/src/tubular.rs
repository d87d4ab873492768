//! The bindings of tubular, as `tubectl load-bindings` reads them. Its precedence is the one of a ruleset: the longer
//! prefix,
//! then one port before all.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::Deserialize;

use super::{ImportError, Imported, Left, RuleText, ServiceText, VerdictText};
use inlet_core::{PortRange, Prefix, Protocol, ServiceName};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    bindings: Vec<Binding>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Binding {
    label: String,
    prefix: String,
    /// 0 stands for all.
    #[serde(default)]
    port: u16,
    protocol: Option<String>,
}

/// Translates bindings: labels become services.
///
/// # Errors
/// [`ImportError::Bindings`] when it is not JSON of this form.
pub fn tubular(text: &str) -> Result<Imported, ImportError> {
    let file: File = serde_json::from_str(text).map_err(ImportError::Bindings)?;
    let mut imported = Imported::default();
    let mut labels: BTreeMap<(Prefix, u16, Protocol), String> = BTreeMap::new();
    for (number, binding) in file.bindings.iter().enumerate() {
        let place = format!("binding {}", number + 1);
        match binding.rule(place.clone(), &mut labels) {
            Ok(rule) => imported.rules.extend(rule),
            Err(why) => imported.left.push(Left { place, text: binding.to_string(), why, todo: true }),
        }
    }
    let mut names: Vec<&String> = labels.values().collect();
    names.sort();
    names.dedup();
    imported.services =
        names.into_iter().map(|name| ServiceText { name: name.clone(), listen: Vec::new(), note: None }).collect();
    Ok(imported)
}

impl Binding {
    /// The rule, or none when there is the very same binding already.
    fn rule(
        &self,
        note: String,
        labels: &mut BTreeMap<(Prefix, u16, Protocol), String>,
    ) -> Result<Option<RuleText>, String> {
        self.label.parse::<ServiceName>().map_err(|error| error.to_string())?;
        let prefix = prefix(&self.prefix)?;
        let ports = match self.port {
            0 => PortRange::ANY,
            port => PortRange::new(port, port).map_err(|error| error.to_string())?,
        };
        let mut protocols: Vec<Protocol> = match self.protocol.as_deref() {
            None | Some("") => Protocol::ALL.to_vec(),
            Some(text) => {
                vec![text.to_lowercase().parse().map_err(|error: inlet_core::ProtocolError| error.to_string())?]
            }
        };
        let key = |protocol: Protocol| (prefix, self.port, protocol);
        if let Some(other) =
            protocols.iter().filter_map(|protocol| labels.get(&key(*protocol))).find(|other| **other != self.label)
        {
            return Err(format!("the same packets are bound to {other:?} above"));
        }
        protocols.retain(|protocol| labels.insert(key(*protocol), self.label.clone()).is_none());
        let (verdict, local) = (VerdictText::To(self.label.clone()), vec![prefix.to_string()]);
        let rule = RuleText {
            verdict,
            protocols,
            local,
            ports: vec![ports],
            except: Vec::new(),
            from: Vec::new(),
            iface: None,
            mark: None,
            note,
        };
        Ok((!rule.protocols.is_empty()).then_some(rule))
    }
}

impl std::fmt::Display for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let protocol = self.protocol.as_deref().unwrap_or("tcp and udp");
        write!(f, "{} {protocol} {} {}", self.label, self.prefix, self.port)
    }
}

/// Host bits count for nothing, and an IPv4-mapped prefix is the IPv4 one.
fn prefix(text: &str) -> Result<Prefix, String> {
    let parsed = text.parse::<IpNet>().or_else(|_| text.parse().map(|addr: std::net::IpAddr| addr.into()));
    let net = parsed.map_err(|_| format!("{text:?} is not a prefix"))?.trunc();
    match Prefix::new(net) {
        Err(inlet_core::PrefixError::Mapped { canonical, .. }) => {
            Prefix::new(canonical).map_err(|error| error.to_string())
        }
        other => other.map_err(|error| error.to_string()),
    }
}
