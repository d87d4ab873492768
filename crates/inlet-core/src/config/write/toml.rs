//! Writes a ruleset as TOML.

use std::io::{self, Write};

use toml_writer::{ToTomlKey, ToTomlValue, TomlKeyBuilder, TomlStringBuilder};

use crate::config::Routes;
use crate::rule::{Confine, Description, Grant, Rule, Spread, Verdict};
use crate::ruleset::Ruleset;

/// Writes the ruleset so that [`parse`](crate::config::parse) reads it back.
///
/// # Errors
/// Those of the writer.
pub fn write_toml(ruleset: &Ruleset, routes: Routes, mut out: impl Write) -> io::Result<()> {
    if routes == Routes::Manage {
        writeln!(out, "routes = \"manage\"")?;
    }
    for (_, service) in ruleset.services().iter() {
        write!(out, "services.{} = {{ on_missing = \"{}\"", key(service.name.as_str()), service.on_missing)?;
        if service.spread != Spread::default() {
            write!(out, ", spread = \"{}\"", service.spread)?;
        }
        if let Some(answers) = service.answers {
            write!(out, ", answers = \"{answers}\"")?;
        }
        if service.sticky.is_on() {
            write!(out, ", sticky = {}", service.sticky)?;
        }
        if let Some(description) = &service.description {
            write_description(&mut out, description)?;
        }
        writeln!(out, " }}")?;
    }
    write_grants(&mut out, ruleset.services().grants())?;
    if ruleset.is_empty() {
        return writeln!(out, "rules = []");
    }
    writeln!(out, "rules = [")?;
    for rule in ruleset.rules() {
        writeln!(out, "  {},", Line { ruleset, rule })?;
    }
    writeln!(out, "]")
}

fn write_grants(out: &mut impl Write, grants: &[Grant]) -> io::Result<()> {
    if grants.is_empty() {
        return Ok(());
    }
    writeln!(out, "grants = [")?;
    for grant in grants {
        write!(out, "  {{ ")?;
        if let Some(user) = &grant.user {
            write!(out, "user = {}, ", quoted(user.as_str()))?;
        }
        if let Some(unit) = &grant.unit {
            write!(out, "unit = {}, ", quoted(unit.as_str()))?;
        }
        write!(out, "service = {}", quoted(grant.service.as_str()))?;
        if !grant.local.is_empty() {
            let local: Vec<String> = grant.local.iter().map(|prefix| format!("\"{prefix}\"")).collect();
            write!(out, ", local = [{}], ports = \"{}\"", local.join(", "), grant.ports)?;
        }
        writeln!(out, " }},")?;
    }
    writeln!(out, "]")
}

fn write_description(out: &mut impl Write, description: &Description) -> io::Result<()> {
    let listen: Vec<String> = description.listen().iter().map(|listen| format!("\"{listen}\"")).collect();
    write!(out, ", listen = [{}]", listen.join(", "))?;
    match &description.confine {
        Some(Confine::Unit(unit)) => write!(out, ", unit = {}", quoted(unit.as_str()))?,
        Some(Confine::Cgroup(path)) => write!(out, ", cgroup = {}", quoted(path.as_str()))?,
        None => {}
    }
    if let Some(user) = &description.user {
        write!(out, ", user = {}", quoted(user.as_str()))?;
    }
    if description.anyone && description.user.is_none() {
        out.write_all(b", anyone = true")?;
    }
    if description.no_mptcp {
        out.write_all(b", no_mptcp = true")?;
    }
    if description.own_binds { out.write_all(b", binds = \"own\"") } else { Ok(()) }
}

/// A rule as an inline table.
struct Line<'a> {
    ruleset: &'a Ruleset,
    rule: Rule,
}

impl std::fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Rule { matching, verdict } = &self.rule;
        match verdict {
            Verdict::Service(_) => {
                write!(f, "{{ to = {}", quoted(self.ruleset.service_name(*verdict).unwrap_or_default()))?;
            }
            plain => write!(f, "{{ verdict = \"{}\"", plain.as_str())?,
        }
        write!(f, ", protocol = \"{}\", local = \"{}\"", matching.protocol, matching.local)?;
        match matching.ports {
            one if one.width() == 1 => write!(f, ", ports = {one}")?,
            range => write!(f, ", ports = \"{range}\"")?,
        }
        if let Some(source) = matching.source {
            write!(f, ", from = \"{source}\"")?;
        }
        if let Some(id) = matching.iface {
            write!(f, ", iface = {}", quoted(self.ruleset.interface(id).name.as_str()))?;
        }
        if let Some(mark) = matching.mark {
            write!(f, ", mark = \"{mark}\"")?;
        }
        f.write_str(" }")
    }
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    TomlStringBuilder::new(text).as_basic().to_toml_value()
}

/// A key, bare where it may be.
fn key(text: &str) -> String {
    TomlKeyBuilder::new(text).as_default().to_toml_key()
}
