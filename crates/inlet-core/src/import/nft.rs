//! What `nft -j list ruleset` writes: the chains that packets meet when they come in.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpSubnets;
use serde_json::Value;

use super::ImportError;
use super::flatten::{Chains, Line, Target};
use super::ipset;
use super::selection::{Addresses, Except, Selection};
use crate::{PortRange, Prefix, Protocol};

/// Reads the document.
pub(super) fn read(text: &str) -> Result<Chains, ImportError> {
    let document: Value = serde_json::from_str(text).map_err(ImportError::Nft)?;
    let objects = document.get("nftables").and_then(Value::as_array).ok_or(ImportError::Unknown)?;
    let of = |kind: &'static str| objects.iter().filter_map(move |object| object.get(kind));
    let sets: BTreeMap<String, Set> = of("set").map(|set| (key(set, "name"), Set::read(set))).collect();
    let mut chains = Chains::default();
    let mut bases: Vec<(i64, String)> = of("chain")
        .filter(|chain| chain["hook"] == "prerouting" && chain["type"] == "filter")
        .map(|chain| (chain["prio"].as_i64().unwrap_or(0), key(chain, "name")))
        .collect();
    bases.sort();
    chains.bases = bases.into_iter().map(|(_, chain)| chain).collect();
    for rule in of("rule") {
        let chain = key(rule, "chain");
        let line = Reader::new(rule, &sets).line();
        chains.rules.entry(chain).or_default().push(line);
    }
    let named = |(name, set): (String, Set)| Some((short(&name), set.addresses()?));
    chains.sets = sets.into_iter().filter_map(named).collect();
    Ok(chains)
}

/// What names an object in the whole ruleset: family, table and its own name.
fn key(object: &Value, name: &str) -> String {
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    format!("{} {} {}", text("family"), text("table"), text(name))
}

/// The name of a set without its table.
fn short(name: &str) -> String {
    name.rsplit(' ').next().unwrap_or(name).to_owned()
}

/// A named set: its members, when a ruleset has words for them.
struct Set(Option<Vec<Value>>);

impl Set {
    fn read(set: &Value) -> Self {
        // Members that come and go with packets are not those that stand there now.
        let changes = set["flags"]
            .as_array()
            .is_some_and(|flags| flags.iter().any(|flag| flag == "dynamic" || flag == "timeout"));
        let members = set.get("elem").map_or(Some(Vec::new()), |elements| elements.as_array().cloned());
        Self(members.filter(|_| !changes))
    }

    fn addresses(&self) -> Option<Vec<Prefix>> {
        addresses_of(self.0.as_ref()?)
    }
}

struct Reader<'a> {
    rule: &'a Value,
    sets: &'a BTreeMap<String, Set>,
    selection: Selection,
    unknown: Option<String>,
    irrelevant: bool,
}

impl<'a> Reader<'a> {
    fn new(rule: &'a Value, sets: &'a BTreeMap<String, Set>) -> Self {
        let family = rule["family"].as_str().unwrap_or_default();
        let selection = Selection::all(family != "ip6", family != "ip");
        Self { rule, sets, selection, unknown: None, irrelevant: false }
    }

    fn cannot(&mut self, why: impl Into<String>) {
        self.unknown.get_or_insert(why.into());
    }

    fn line(mut self) -> Line {
        let mut target = Target::None;
        let expressions = self.rule["expr"].as_array().cloned().unwrap_or_default();
        for expression in &expressions {
            let Some((kind, value)) = expression.as_object().and_then(|object| object.iter().next()) else { continue };
            match (kind.as_str(), &mut target) {
                ("match", _) => self.condition(value),
                ("tproxy", _) => target = self.tproxy(value),
                ("accept", Target::Tproxy { goes_on, .. }) => *goes_on = false,
                ("accept", _) => target = Target::Accept,
                ("return", Target::None) => target = Target::Return,
                ("jump", _) => target = Target::Jump(self.chain(value)),
                ("goto", _) => target = Target::Goto(self.chain(value)),
                ("drop" | "reject", _) => {
                    self.cannot("dropping stays with the firewall; a ruleset can refuse");
                    target = Target::Accept;
                }
                // What iptables made, nft cannot tell in full.
                ("xt", _) => {
                    let is_target = value["type"] == "target";
                    if value["name"] == "socket" {
                        self.irrelevant = true;
                    } else if !is_target || value["name"] == "TPROXY" {
                        self.cannot("iptables made this rule; give what iptables-save writes");
                        target = Target::Accept;
                    }
                }
                ("counter" | "log" | "mangle" | "meta" | "return", _) => {}
                (other, _) => {
                    self.cannot(format!("a ruleset has no counterpart of {other}"));
                    if target == Target::None {
                        target = Target::Accept;
                    }
                }
            }
        }
        let target = if self.irrelevant { Target::None } else { target };
        let comment = self.rule["comment"].as_str().map(str::to_owned);
        let place = format!("{} handle {}", key(self.rule, "chain"), self.rule["handle"]);
        let text = self.rule["expr"].to_string();
        Line { place, text, comment, selections: vec![self.selection], target, unknown: self.unknown }
    }

    fn chain(&self, value: &Value) -> String {
        let text = |key: &str| self.rule[key].as_str().unwrap_or_default();
        format!("{} {} {}", text("family"), text("table"), value["target"].as_str().unwrap_or_default())
    }

    fn tproxy(&mut self, value: &Value) -> Target {
        match value["family"].as_str() {
            Some("ip") => self.selection.v6 = false,
            Some("ip6") => self.selection.v4 = false,
            _ => {}
        }
        let addr: Option<IpAddr> = value["addr"].as_str().and_then(|addr| addr.trim_matches(['[', ']']).parse().ok());
        let port = value["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
        if port == 0 {
            self.cannot("without a port each port has a socket of its own");
        }
        Target::Tproxy { addr, port, goes_on: true }
    }

    fn condition(&mut self, condition: &Value) {
        let (left, right) = (&condition["left"], &condition["right"]);
        let not = condition["op"] == "!=";
        let known = matches!(condition["op"].as_str(), Some("==" | "!=" | "in"));
        let payload = |field: &str| left["payload"][field].as_str().unwrap_or_default();
        let meta = left["meta"]["key"].as_str().unwrap_or_default();
        let done = match (payload("protocol"), payload("field"), meta) {
            _ if !known => None,
            (protocol @ ("ip" | "ip6"), field @ ("daddr" | "saddr"), _) => {
                self.addresses(protocol == "ip6", field == "saddr", right, not)
            }
            (protocol @ ("tcp" | "udp" | "th"), "dport", _) => self.ports(protocol, right, not),
            (_, _, "l4proto") => self.protocols(right, not),
            (_, _, "iifname" | "iif") => self.iface(right, not),
            (_, _, "nfproto") => self.family(right, not),
            _ if left.get("socket").is_some() => {
                self.irrelevant = true;
                Some(())
            }
            _ if left["ct"]["key"] == "state" => {
                self.irrelevant |= values(right).iter().any(|state| *state == "new") == not;
                Some(())
            }
            _ => None,
        };
        if done.is_none() {
            self.cannot(format!(
                "a ruleset has no condition {left} {} {right}",
                condition["op"].as_str().unwrap_or("?")
            ));
        }
    }

    fn addresses(&mut self, v6: bool, source: bool, right: &Value, not: bool) -> Option<()> {
        (if v6 { &mut self.selection.v4 } else { &mut self.selection.v6 }).clone_from(&false);
        let addresses = match right.as_str().and_then(|text| text.strip_prefix('@')) {
            Some(name) => Addresses::These(Some(name.to_owned()), self.set(name)?.addresses()?),
            None => Addresses::These(None, addresses_of(&values(right).into_iter().cloned().collect::<Vec<_>>())?),
        };
        let all = Selection::all(true, true);
        match (not, source) {
            (false, false) => self.selection = self.selection.and(&Selection { local: addresses, ..all }),
            (false, true) => self.selection = self.selection.and(&Selection { source: addresses, ..all }),
            (true, false) => self.selection.except.push(Except::Local(addresses)),
            (true, true) => self.selection.except.push(Except::Source(addresses)),
        }
        Some(())
    }

    fn set(&self, name: &str) -> Option<&'a Set> {
        let text = |key: &str| self.rule[key].as_str().unwrap_or_default();
        self.sets.get(&format!("{} {} {name}", text("family"), text("table")))
    }

    fn ports(&mut self, protocol: &str, right: &Value, not: bool) -> Option<()> {
        if let Ok(protocol) = protocol.parse::<Protocol>() {
            self.selection.protocols.retain(|other| *other == protocol);
        }
        let members = match right.as_str().and_then(|text| text.strip_prefix('@')) {
            Some(name) => self.set(name)?.0.clone()?,
            None => values(right).into_iter().cloned().collect(),
        };
        let ports: Vec<PortRange> = members.iter().map(port).collect::<Option<_>>()?;
        match not {
            true => self.selection.except.push(Except::Ports(ports)),
            false => self.selection = self.selection.and(&Selection { ports, ..Selection::all(true, true) }),
        }
        Some(())
    }

    fn protocols(&mut self, right: &Value, not: bool) -> Option<()> {
        let named = |value: &Value| match value {
            Value::Number(number) => number.as_u64().map(|number| number.to_string()),
            other => other.as_str().map(str::to_owned),
        };
        let named: Vec<String> = values(right).into_iter().map(named).collect::<Option<_>>()?;
        let is_named = |protocol: Protocol| {
            let number = if protocol == Protocol::Tcp { "6" } else { "17" };
            named.iter().any(|name| name == protocol.as_str() || name == number)
        };
        self.selection.protocols.retain(|protocol| is_named(*protocol) != not);
        Some(())
    }

    fn iface(&mut self, right: &Value, not: bool) -> Option<()> {
        let name = right.as_str().filter(|name| !name.contains('*'))?.parse().ok()?;
        match not {
            true => self.selection.except.push(Except::Iface(name)),
            false => self.selection.iface(name),
        }
        Some(())
    }

    fn family(&mut self, right: &Value, not: bool) -> Option<()> {
        match (right.as_str()?, not) {
            ("ipv4", false) | ("ipv6", true) => self.selection.v6 = false,
            ("ipv6", false) | ("ipv4", true) => self.selection.v4 = false,
            _ => return None,
        }
        Some(())
    }
}

/// The members of a set that stands in a rule, or the one value.
fn values(value: &Value) -> Vec<&Value> {
    match value.get("set").unwrap_or(value) {
        Value::Array(all) => all.iter().collect(),
        one => vec![one],
    }
}

fn addresses_of(members: &[Value]) -> Option<Vec<Prefix>> {
    let mut all = Vec::new();
    for member in members {
        let member = member.get("elem").map_or(member, |element| element.get("val").unwrap_or(element));
        if let Some(text) = member.as_str() {
            all.push(ipset::prefix(text)?);
        } else if let Some(prefix) = member.get("prefix") {
            all.push(ipset::prefix(&format!("{}/{}", prefix["addr"].as_str()?, prefix["len"]))?);
        } else {
            all.extend(range(member.get("range")?)?);
        }
    }
    Some(all)
}

/// The prefixes that a range of addresses is made of.
fn range(ends: &Value) -> Option<Vec<Prefix>> {
    let end = |at: usize| ends.get(at)?.as_str()?.parse::<IpAddr>().ok();
    let subnets = match (end(0)?, end(1)?) {
        (IpAddr::V4(first), IpAddr::V4(last)) => IpSubnets::from(ipnet::Ipv4Subnets::new(first, last, 0)),
        (IpAddr::V6(first), IpAddr::V6(last)) => IpSubnets::from(ipnet::Ipv6Subnets::new(first, last, 0)),
        _ => return None,
    };
    subnets.map(|net| Prefix::new(net).ok()).collect()
}

fn port(value: &Value) -> Option<PortRange> {
    let number = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
    let value = value.get("elem").map_or(value, |element| element.get("val").unwrap_or(element));
    match value.get("range") {
        Some(ends) => PortRange::new(number(ends.get(0)?)?.max(1), number(ends.get(1)?)?).ok(),
        None => number(value).and_then(|port| PortRange::new(port, port).ok()),
    }
}
