//! Writes a ruleset as JSON.

use std::io::{self, Write};

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use crate::config::Routes;
use crate::rule::{Confine, Description, Grant, Rule, Spread, Verdict};
use crate::ruleset::Ruleset;

/// Writes the ruleset so that [`parse`](crate::config::parse) reads it back.
///
/// # Errors
/// Those of the writer.
pub fn write(ruleset: &Ruleset, routes: Routes, mut out: impl Write) -> io::Result<()> {
    out.write_all(b"{")?;
    if routes == Routes::Manage {
        out.write_all(b"\"routes\": \"manage\",\n ")?;
    }
    out.write_all(b"\"services\": {")?;
    let mut separator = "";
    for (_, service) in ruleset.services().iter() {
        let name = serde_json::to_string(service.name.as_str())?;
        write!(out, "{separator}\n  {name}: {{\"on_missing\": \"{}\"", service.on_missing)?;
        if service.spread != Spread::default() {
            write!(out, ", \"spread\": \"{}\"", service.spread)?;
        }
        if let Some(answers) = service.answers {
            write!(out, ", \"answers\": \"{answers}\"")?;
        }
        if service.sticky.is_on() {
            write!(out, ", \"sticky\": {}", service.sticky)?;
        }
        if let Some(description) = &service.description {
            write_description(&mut out, description)?;
        }
        out.write_all(b"}")?;
        separator = ",";
    }
    out.write_all(b"},\n ")?;
    write_grants(&mut out, ruleset.services().grants())?;
    out.write_all(b"\"rules\": [")?;
    separator = "";
    for rule in ruleset.rules() {
        write!(out, "{separator}\n  ")?;
        serde_json::to_writer(&mut out, &InFile { ruleset, rule: &rule })?;
        separator = ",";
    }
    out.write_all(b"]}\n")
}

fn write_grants(out: &mut impl Write, grants: &[Grant]) -> io::Result<()> {
    if grants.is_empty() {
        return Ok(());
    }
    out.write_all(b"\"grants\": [")?;
    let mut separator = "";
    for grant in grants {
        write!(out, "{separator}\n  {{")?;
        if let Some(user) = &grant.user {
            write!(out, "\"user\": {}, ", serde_json::to_string(user.as_str())?)?;
        }
        if let Some(unit) = &grant.unit {
            write!(out, "\"unit\": {}, ", serde_json::to_string(unit.as_str())?)?;
        }
        write!(out, "\"service\": {}", serde_json::to_string(grant.service.as_str())?)?;
        if !grant.local.is_empty() {
            let local: Vec<String> = grant.local.iter().map(ToString::to_string).collect();
            write!(out, ", \"local\": {}, \"ports\": \"{}\"", serde_json::to_string(&local)?, grant.ports)?;
        }
        out.write_all(b"}")?;
        separator = ",";
    }
    out.write_all(b"],\n ")
}

fn write_description(out: &mut impl Write, description: &Description) -> io::Result<()> {
    let listen: Vec<String> = description.listen().iter().map(ToString::to_string).collect();
    write!(out, ", \"listen\": {}", serde_json::to_string(&listen)?)?;
    match &description.confine {
        Some(Confine::Unit(unit)) => write!(out, ", \"unit\": {}", serde_json::to_string(unit.as_str())?)?,
        Some(Confine::Cgroup(path)) => write!(out, ", \"cgroup\": {}", serde_json::to_string(path.as_str())?)?,
        None => {}
    }
    if let Some(user) = &description.user {
        write!(out, ", \"user\": {}", serde_json::to_string(user.as_str())?)?;
    }
    if description.anyone && description.user.is_none() {
        out.write_all(b", \"anyone\": true")?;
    }
    if description.no_mptcp {
        out.write_all(b", \"no_mptcp\": true")?;
    }
    if description.own_binds { out.write_all(b", \"binds\": \"own\"") } else { Ok(()) }
}

/// A rule as a file has it, without absent conditions.
struct InFile<'a> {
    ruleset: &'a Ruleset,
    rule: &'a Rule,
}

impl Serialize for InFile<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let matching = &self.rule.matching;
        let mut object = serializer.serialize_struct("rule", 7)?;
        match self.rule.verdict {
            Verdict::Service(_) => object.serialize_field("to", &self.ruleset.service_name(self.rule.verdict))?,
            verdict => object.serialize_field("verdict", verdict.as_str())?,
        }
        object.serialize_field("protocol", matching.protocol.as_str())?;
        object.serialize_field("local", &matching.local.net())?;
        object.serialize_field("ports", &matching.ports.to_string())?;
        if let Some(source) = matching.source {
            object.serialize_field("from", &source.net())?;
        }
        if let Some(id) = matching.iface {
            object.serialize_field("iface", self.ruleset.interface(id).name.as_str())?;
        }
        if let Some(mark) = matching.mark {
            object.serialize_field("mark", &mark.to_string())?;
        }
        object.end()
    }
}

/// A rule for reports: every key is present, and `null` where a condition or a service is absent.
pub fn rule_json(ruleset: &Ruleset, rule: &Rule) -> impl Serialize {
    let matching = &rule.matching;
    Report {
        protocol: matching.protocol.as_str(),
        local: matching.local.to_string(),
        ports: matching.ports.to_string(),
        from: matching.source.map(|source| source.to_string()),
        iface: matching.iface.map(|id| ruleset.interface(id).name.as_str().to_owned()),
        mark: matching.mark.map(|mark| mark.to_string()),
        verdict: rule.verdict.as_str(),
        service: ruleset.service_name(rule.verdict).map(str::to_owned),
    }
}

#[derive(Serialize)]
struct Report {
    protocol: &'static str,
    local: String,
    ports: String,
    from: Option<String>,
    iface: Option<String>,
    mark: Option<String>,
    verdict: &'static str,
    service: Option<String>,
}
