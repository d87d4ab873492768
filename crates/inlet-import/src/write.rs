//! Writes a translated ruleset file in TOML or JSON.

use std::io::{self, Write};

use serde_json::{Value, json};
use toml_writer::{ToTomlKey, ToTomlValue, TomlKeyBuilder, TomlStringBuilder};

use super::{Imported, Left, RuleText, VerdictText};
use inlet_core::PortRange;

impl Imported {
    /// Writes the file as TOML, with untranslated rules as comments.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_toml(&self, mut out: impl Write) -> io::Result<()> {
        for left in &self.left {
            writeln!(out, "{}", left.comment())?;
        }
        for service in &self.services {
            if let Some(note) = &service.note {
                writeln!(out, "# {}", comment(note))?;
            }
            let listen = if service.listen.is_empty() {
                "{}".to_owned()
            } else {
                format!("{{ listen = {} }}", list(&service.listen))
            };
            writeln!(out, "services.{} = {listen}", key(&service.name))?;
        }
        for (name, prefixes) in &self.sets {
            writeln!(out, "sets.{} = [", key(name))?;
            prefixes.iter().try_for_each(|prefix| writeln!(out, "  \"{prefix}\","))?;
            writeln!(out, "]")?;
        }
        if self.rules.is_empty() && self.undecided.is_empty() {
            return writeln!(out, "rules = []");
        }
        writeln!(out, "rules = [")?;
        let mut note = "";
        for rule in &self.rules {
            if rule.note != note {
                note = &rule.note;
                writeln!(out, "  # {}", comment(note))?;
            }
            writeln!(out, "  {},", rule.toml())?;
        }
        for rule in &self.undecided {
            writeln!(
                out,
                "  # TODO {}: decide, then remove this line or take its comment mark away",
                comment(&rule.note)
            )?;
            writeln!(out, "  # {},", comment(&rule.toml()))?;
        }
        writeln!(out, "]")
    }

    /// The ruleset as JSON of the same shape.
    pub fn to_json(&self) -> Value {
        let services = self.services.iter().map(|service| {
            let value = if service.listen.is_empty() { json!({}) } else { json!({ "listen": service.listen }) };
            (service.name.clone(), value)
        });
        let sets = self
            .sets
            .iter()
            .map(|(name, all)| (name.clone(), all.iter().map(ToString::to_string).collect::<Vec<_>>().into()));
        json!({
            "services": services.collect::<serde_json::Map<_, _>>(),
            "sets": sets.collect::<serde_json::Map<String, Value>>(),
            "rules": self.rules.iter().map(RuleText::json).collect::<Vec<_>>(),
        })
    }
}

impl Left {
    fn comment(&self) -> String {
        let mark = if self.todo { "TODO" } else { "Note" };
        let text = if self.text.is_empty() { String::new() } else { format!(": {}", comment(&self.text)) };
        format!("# {mark} {}{text}\n#   {}", comment(&self.place), comment(&self.why))
    }
}

impl RuleText {
    fn toml(&self) -> String {
        let mut fields = vec![match &self.verdict {
            VerdictText::To(service) => format!("to = {}", quoted(service)),
            VerdictText::Pass => "verdict = \"pass\"".to_owned(),
            VerdictText::Refuse => "verdict = \"refuse\"".to_owned(),
        }];
        let protocols: Vec<String> = self.protocols.iter().map(ToString::to_string).collect();
        fields.push(format!("protocol = {}", one_or_list(&protocols, |text| quoted(text))));
        fields.push(format!("local = {}", one_or_list(&self.local, |text| quoted(text))));
        fields.push(format!("ports = {}", one_or_list(&self.ports, port)));
        if !self.except.is_empty() {
            fields.push(format!("except = {}", one_or_list(&self.except, port)));
        }
        if !self.from.is_empty() {
            fields.push(format!("from = {}", one_or_list(&self.from, |text| quoted(text))));
        }
        fields.extend(self.iface.iter().map(|name| format!("iface = {}", quoted(name))));
        fields.extend(self.mark.iter().map(|mark| format!("mark = {}", quoted(mark))));
        format!("{{ {} }}", fields.join(", "))
    }

    fn json(&self) -> Value {
        let ports = |ports: &[PortRange]| ports.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut rule = json!({
            "protocol": self.protocols.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "local": self.local,
            "ports": ports(&self.ports),
        });
        let mut set = |key: &str, value: Value| rule[key] = value;
        match &self.verdict {
            VerdictText::To(service) => set("to", service.as_str().into()),
            VerdictText::Pass => set("verdict", "pass".into()),
            VerdictText::Refuse => set("verdict", "refuse".into()),
        }
        if !self.except.is_empty() {
            set("except", ports(&self.except).into());
        }
        if !self.from.is_empty() {
            set("from", self.from.clone().into());
        }
        if let Some(name) = &self.iface {
            set("iface", name.as_str().into());
        }
        if let Some(mark) = &self.mark {
            set("mark", mark.as_str().into());
        }
        rule
    }
}

fn port(range: &PortRange) -> String {
    if range.width() == 1 { range.to_string() } else { format!("\"{range}\"") }
}

fn one_or_list<T>(values: &[T], text: impl Fn(&T) -> String) -> String {
    match values {
        [one] => text(one),
        several => format!("[{}]", several.iter().map(text).collect::<Vec<_>>().join(", ")),
    }
}

fn list(values: &[String]) -> String {
    format!("[{}]", values.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
}

fn quoted(text: &str) -> String {
    TomlStringBuilder::new(text).as_basic().to_toml_value()
}

fn key(text: &str) -> String {
    TomlKeyBuilder::new(text).as_default().to_toml_key()
}

/// A comment ends with its line, and has no control characters.
fn comment(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
