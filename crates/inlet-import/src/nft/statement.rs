//! What rules of nftables do.

use inlet_core::Family;
use serde_json::Value;

use super::rule::{Key, Reader};
use super::values::{Piece, numbers};
use crate::firewall::{Action, Choice, Step, Test};

/// Statements that change nothing about who gets a packet.
const HARMLESS: [&str; 13] = [
    "counter",
    "log",
    "map",
    "flow",
    "ct helper",
    "ct timeout",
    "ct expectation",
    "secmark",
    "dup",
    "comment",
    "last",
    "meta",
    "tunnel",
];
/// Extensions of iptables that change nothing about it either.
const HARMLESS_XT: [&str; 8] = ["comment", "LOG", "NFLOG", "TRACE", "CLASSIFY", "DSCP", "TCPMSS", "TOS"];

impl Reader<'_> {
    /// The steps of a rule.
    pub(super) fn steps(&mut self, expressions: &[Value]) -> Vec<Step> {
        for expression in expressions {
            match expression.as_object().and_then(|object| object.iter().next()) {
                Some((kind, value)) => self.statement(kind, value),
                None => self.cannot(format!("the import does not understand {expression}")),
            }
        }
        std::mem::take(&mut self.steps)
    }

    fn act(&mut self, action: Action) {
        self.steps.push(Step::Do(action));
    }

    fn statement(&mut self, kind: &str, value: &Value) {
        match kind {
            "match" => self.condition(value),
            "vmap" => self.dispatch(value),
            "tproxy" => match self.tproxy(value) {
                Ok(action) => self.act(action),
                Err(why) => self.act(Action::Anything(why)),
            },
            "mangle" => self.mangle(value),
            "notrack" => self.act(Action::NoTrack),
            "xt" => self.extension(value),
            "set" => {
                let name = value["set"].as_str().unwrap_or_default().trim_start_matches('@').to_owned();
                self.changed.insert((self.here.0.clone(), self.here.1.clone(), name));
            }
            harmless if HARMLESS.contains(&harmless) => {}
            "limit" | "quota" | "ct count" | "meter" => self.cannot(format!("a ruleset has no condition {kind}")),
            other => match self.verdict(other, value) {
                Ok(action) => self.act(action),
                Err(why) => self.act(Action::Anything(why)),
            },
        }
    }

    fn verdict(&self, kind: &str, value: &Value) -> Result<Action, String> {
        let chain = || {
            let target = value["target"].as_str().unwrap_or_default();
            let (family, table, _) = self.here;
            let name = (family.clone(), table.clone(), target.to_owned());
            self.chains.get(&name).copied().ok_or_else(|| format!("there is no chain {target}"))
        };
        Ok(match kind {
            "accept" => Action::Accept,
            "drop" => Action::Drop,
            "reject" => Action::Reject,
            "return" => Action::Return,
            "continue" => Action::Nothing,
            "jump" => Action::Jump(chain()?),
            "goto" => Action::Goto(chain()?),
            other => return Err(format!("what the statement {other} does with packets is not known here")),
        })
    }

    fn dispatch(&mut self, value: &Value) {
        let key = Key::of(&value["key"]);
        self.implied(&key);
        let entries = match self.entries(&value["data"]) {
            Ok(entries) => entries,
            Err(why) => return self.act(Action::Anything(why)),
        };
        let action = |reader: &Self, verdict: &Value| match verdict.as_object().and_then(|object| object.iter().next())
        {
            Some((kind, value)) => reader.verdict(kind, value).unwrap_or_else(Action::Anything),
            None => Action::Anything(format!("{verdict} is no verdict")),
        };
        let entries = entries.into_iter().map(|(key, verdict)| (key, action(self, &verdict))).collect();
        let list = self.grouped(&key, entries);
        self.act(Action::Dispatch(list));
    }

    fn tproxy(&mut self, value: &Value) -> Result<Action, String> {
        let family = match value["family"].as_str() {
            Some("ip") => Some(Family::V4),
            Some("ip6") => Some(Family::V6),
            _ => None,
        };
        let of_addr = |value: &Value| {
            value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| format!("{value} is no address"))
        };
        let of_port = |value: &Value| match numbers(&Piece::of(value), u16::MAX.into()) {
            Some((port, last)) if port == last && port > 0 => Ok(port as u16),
            _ => Err(format!("{value} is no port")),
        };
        let map_of = |value: &Value| value.get("map").cloned();
        let choices = match (value.get("addr"), value.get("port")) {
            (addr, Some(port)) if map_of(port).is_some() => {
                let addr = addr.map(of_addr).transpose()?;
                let found = self.mapped(&port["map"], of_port)?;
                found
                    .into_iter()
                    .map(|(test, port)| Choice { test: Some(test), family, addr, port: Some(port) })
                    .collect()
            }
            (Some(addr), port) if map_of(addr).is_some() => {
                let port = port.map(of_port).transpose()?;
                let found = self.mapped(&addr["map"], of_addr)?;
                found
                    .into_iter()
                    .map(|(test, addr)| Choice { test: Some(test), family, addr: Some(addr), port })
                    .collect()
            }
            (addr, port) => {
                let (addr, port) = (addr.map(of_addr).transpose()?, port.map(of_port).transpose()?);
                vec![Choice { test: None, family: family.or_else(|| addr.map(Family::from)), addr, port }]
            }
        };
        Ok(Action::Tproxy { choices, ends: false })
    }

    /// The results of a map, each with the test for its keys.
    fn mapped<T: PartialEq>(
        &mut self,
        map: &Value,
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> Result<Vec<(usize, T)>, String> {
        let key = Key::of(&map["key"]);
        self.implied(&key);
        let entries = self.entries(&map["data"])?;
        let entries = entries.into_iter().map(|(key, value)| Ok((key, read(&value)?)));
        let entries = entries.collect::<Result<Vec<_>, String>>()?;
        Ok(self.grouped(&key, entries))
    }

    /// Only marks tell who gets a packet, and addresses and ports, which nobody changes here.
    fn mangle(&mut self, value: &Value) {
        let key = &value["key"];
        let conn = key.get("ct").is_some();
        let is_mark = |key: &Value| key["meta"]["key"] == "mark" || key["ct"]["key"] == "mark";
        let (own, other) = if conn { ("ct", "meta") } else { ("meta", "ct") };
        match () {
            () if !is_mark(key) => {
                let field = key["payload"]["field"].as_str().unwrap_or_default();
                if matches!(field, "daddr" | "saddr" | "dport" | "sport" | "protocol" | "nexthdr") {
                    self.act(Action::Anything("it changes the address or the port of packets".to_owned()));
                }
            }
            () if value["value"][other]["key"] == "mark" => self.act(Action::CopyMark { to_conn: conn }),
            () => match bits(&value["value"], own) {
                Some((keep, flip)) => self.act(Action::Mark { conn, keep, flip }),
                None => self.act(Action::Anything("which mark it gives is not known here".to_owned())),
            },
        }
    }

    /// What iptables wrote in full, nft shows by name only.
    fn extension(&mut self, value: &Value) {
        let name = value["name"].as_str().unwrap_or("an extension of iptables");
        if HARMLESS_XT.contains(&name) {
            return;
        }
        let save = if self.here.0 == "ip6" { "ip6tables-save" } else { "iptables-save" };
        let why = format!(
            "iptables wrote this rule, and nft does not show what is in {name}; import what this writes: {save}"
        );
        match value["type"] == "match" {
            true => self.matches(Test::Unknown(why), false),
            false => self.act(Action::Anything(why)),
        }
    }
}

/// A mark computed from the one before: the bits that stay, and those that are flipped then.
fn bits(value: &Value, own: &str) -> Option<(u32, u32)> {
    if value[own]["key"] == "mark" {
        return Some((u32::MAX, 0));
    }
    let operands = |operator: &str| value.get(operator)?.as_array()?.split_first();
    for operator in ["&", "|", "^"] {
        let Some((first, rest)) = operands(operator) else { continue };
        let mut all = bits(first, own)?;
        for value in rest {
            let number = numbers(&Piece::of(value), u32::MAX.into())?.0 as u32;
            let (keep, flip) = all;
            all = match operator {
                "&" => (keep & number, flip & number),
                "|" => (keep & !number, flip | number),
                _ => (keep, flip ^ number),
            };
        }
        return Some(all);
    }
    let (number, last) = numbers(&Piece::of(value), u32::MAX.into())?;
    (number == last).then_some((0, number as u32))
}
