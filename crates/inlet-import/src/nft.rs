//! Reads the output of `nft -j list ruleset`: the base chains and the chains that they jump to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;

use super::ImportError;
use super::flatten::{Base, Chains, Line, Target};
use super::members::{addresses_of, port, values};
use super::selection::{Addresses, Except, Selection};
use inlet_core::{Family, PortRange, Prefix, Protocol};

/// Reads the document.
pub(super) fn read(text: &str) -> Result<Chains, ImportError> {
    let document: Value = serde_json::from_str(text).map_err(ImportError::Nft)?;
    let objects = document.get("nftables").and_then(Value::as_array).ok_or(ImportError::Unknown)?;
    let of = |kind: &'static str| objects.iter().filter_map(move |object| object.get(kind));
    let sets: BTreeMap<String, Set> = of("set").map(|set| (key(set, "name"), Set::read(set))).collect();
    let mut chains = Chains::default();
    let mut keeps: BTreeMap<String, BTreeSet<Protocol>> = BTreeMap::new();
    for rule in of("rule") {
        let chain = key(rule, "chain");
        let reader = Reader::new(rule, &sets);
        let (line, kept) = reader.line();
        let lines = chains.rules.entry(chain.clone()).or_default();
        // After a rule that gives packets a socket, it would skip these packets too.
        if !lines
            .iter()
            .any(|line: &Line| matches!(line.target, Target::Tproxy { .. } | Target::Jump(_) | Target::Goto(_)))
        {
            keeps.entry(chain).or_default().extend(kept);
        }
        lines.push(line);
    }
    chains.bases = bases(of("chain"), keeps);
    let named = |(name, set): (String, Set)| Some((short(&name), set.addresses()?));
    chains.sets = sets.into_iter().filter_map(named).collect();
    Ok(chains)
}

/// The base chains by priority, the lower number first. Of equal ones the kernel asks the newer chain first: it puts it
/// in front of the others (`nf_hook_entries_grow`).
fn bases<'a>(chains: impl Iterator<Item = &'a Value>, mut keeps: BTreeMap<String, BTreeSet<Protocol>>) -> Vec<Base> {
    let comes_in = |chain: &&Value| chain["hook"] == "prerouting" && chain["type"] == "filter";
    let mut bases: Vec<&Value> = chains.filter(comes_in).collect();
    bases.reverse();
    bases.sort_by_key(|chain| chain["prio"].as_i64().unwrap_or(0));
    let base = |chain: &Value| {
        let chain = key(chain, "name");
        Base { keeps: keeps.remove(&chain).unwrap_or_default(), chain }
    };
    bases.into_iter().map(base).collect()
}

/// The full name of an object: family, table and its own name.
fn key(object: &Value, name: &str) -> String {
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    format!("{} {} {}", text("family"), text("table"), text(name))
}

/// The name of a set without its table.
fn short(name: &str) -> String {
    name.rsplit(' ').next().unwrap_or(name).to_owned()
}

/// A named set: its members, when a ruleset can express them.
struct Set(Option<Vec<Value>>);

impl Set {
    fn read(set: &Value) -> Self {
        // The members of a dynamic set change with packets.
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

/// The families of a rule's table.
fn families_of(rule: &Value) -> BTreeSet<Family> {
    match rule["family"].as_str() {
        Some("ip") => [Family::V4].into(),
        Some("ip6") => [Family::V6].into(),
        _ => Family::ALL.into(),
    }
}

struct Reader<'a> {
    rule: &'a Value,
    sets: &'a BTreeMap<String, Set>,
    selection: Selection,
    unknown: Option<String>,
    irrelevant: bool,
    /// Whether it matches packets that have a transparent socket.
    of_socket: bool,
}

impl<'a> Reader<'a> {
    fn new(rule: &'a Value, sets: &'a BTreeMap<String, Set>) -> Self {
        let selection = Selection { families: families_of(rule), ..Selection::all() };
        Self { rule, sets, selection, unknown: None, irrelevant: false, of_socket: false }
    }

    fn cannot(&mut self, why: impl Into<String>) {
        self.unknown.get_or_insert(why.into());
    }

    /// Reads the rule. Also gives the protocols whose packets it skips when they have a socket.
    fn line(mut self) -> (Line, BTreeSet<Protocol>) {
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
                // nft does not print rules of iptables in full.
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
        let kept = match target {
            Target::Accept | Target::Jump(_) | Target::Goto(_) if self.of_socket => self.all_protocols(),
            _ => BTreeSet::new(),
        };
        let target = if self.irrelevant { Target::None } else { target };
        let comment = self.rule["comment"].as_str().map(str::to_owned);
        let place = format!("{} handle {}", key(self.rule, "chain"), self.rule["handle"]);
        let text = self.rule["expr"].to_string();
        (Line { place, text, comment, selections: vec![self.selection], target, unknown: self.unknown }, kept)
    }

    /// The protocols of which the rule matches all packets of its table.
    fn all_protocols(&self) -> BTreeSet<Protocol> {
        let Selection { protocols, families, local, ports, source, iface, except, nothing } = &self.selection;
        let all = *families == families_of(self.rule) && except.is_empty() && !nothing && iface.is_none();
        let everywhere = *local == Addresses::Any && *source == Addresses::Any && ports[..] == [PortRange::ANY];
        if all && everywhere && self.unknown.is_none() { protocols.clone() } else { BTreeSet::new() }
    }

    fn chain(&self, value: &Value) -> String {
        let text = |key: &str| self.rule[key].as_str().unwrap_or_default();
        format!("{} {} {}", text("family"), text("table"), value["target"].as_str().unwrap_or_default())
    }

    fn tproxy(&mut self, value: &Value) -> Target {
        match value["family"].as_str() {
            Some("ip") => self.only(Family::V4),
            Some("ip6") => self.only(Family::V6),
            _ => {}
        }
        let addr: Option<IpAddr> = value["addr"].as_str().and_then(|addr| addr.trim_matches(['[', ']']).parse().ok());
        let port = value["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
        if port == 0 {
            self.cannot("without a port each port has a socket of its own");
        }
        Target::Tproxy { addr, port, goes_on: true }
    }

    fn only(&mut self, family: Family) {
        self.selection.families.retain(|other| *other == family);
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
                self.only(if protocol == "ip6" { Family::V6 } else { Family::V4 });
                self.addresses(field == "saddr", right, not)
            }
            (protocol @ ("tcp" | "udp" | "th"), "dport", _) => self.ports(protocol, right, not),
            (_, _, "l4proto") => self.protocols(right, not),
            (_, _, "iifname" | "iif") => self.iface(right, not),
            (_, _, "nfproto") => self.family(right, not),
            _ if left.get("socket").is_some() => {
                self.irrelevant = true;
                self.of_socket = left["socket"]["key"] == "transparent" && (*right == 1) != not;
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

    fn addresses(&mut self, source: bool, right: &Value, not: bool) -> Option<()> {
        let addresses = match right.as_str().and_then(|text| text.strip_prefix('@')) {
            Some(name) => Addresses::These(Some(name.to_owned()), self.set(name)?.addresses()?),
            None => Addresses::These(None, addresses_of(&values(right).into_iter().cloned().collect::<Vec<_>>())?),
        };
        let all = Selection::all();
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
            false => self.selection = self.selection.and(&Selection { ports, ..Selection::all() }),
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
            ("ipv4", false) | ("ipv6", true) => self.only(Family::V4),
            ("ipv6", false) | ("ipv4", true) => self.only(Family::V6),
            _ => return None,
        }
        Some(())
    }
}
