//! Reading JSON without mistakes: rules go into a builder as they are read, so a million of them need no second copy.
//!
//! Whatever is unusual or wrong ends it without a word; [`super::reader`] then reads the text again, and has the last
//! word on what is an error. It accepts all that this accepts, and makes the same of it.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::fields::{Described, Plain, resolve_interfaces};
use super::loader::Loader;
use super::rule::{Parts, any_source, check_except, check_families, with_verdicts};
use super::sets::{PrefixOrSet, Sets, lines};
use super::texts::{List, Text};
use super::{Parsed, Routes};
use crate::{
    Builder, CgroupPath, InterfaceName, Listen, OnMissing, PortRange, Ports, Prefix, Protocol, Ruleset, ServiceName,
    Services, UnitName, UserName, Verdict,
};

/// Reads file 0 of the loader; `None` when it has to be read the slow way.
pub(super) fn parse(loader: &mut Loader<'_>, old: &Ruleset) -> Option<Parsed> {
    let text = loader.text(0);
    let mut builder = Builder::successor_of(old);
    let (mut declared, mut routes) = (Services::default(), Routes::default());
    let mut json = serde_json::Deserializer::from_str(&text);
    let root = Root { builder: &mut builder, declared: &mut declared, routes: &mut routes, loader };
    root.deserialize(&mut json).ok()?;
    json.end().ok()?;
    let all_declared = builder.services().iter().all(|(_, service)| declared.id(service.name.as_str()).is_some());
    if !all_declared || !resolve_interfaces(&mut builder, loader.host).is_empty() {
        return None;
    }
    Some(Parsed { ruleset: builder.finish().ok()?, routes })
}

/// What ends it. Nobody reads this.
pub(super) fn slow<E: de::Error>() -> E {
    E::custom("to be read the slow way")
}

struct Root<'b, 'h> {
    builder: &'b mut Builder,
    declared: &'b mut Services,
    routes: &'b mut Routes,
    loader: &'b mut Loader<'h>,
}

impl<'de> DeserializeSeed<'de> for Root<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Root<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut sets = Sets::default();
        let mut seen = Vec::new();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match key.as_ref() {
                key if seen.iter().any(|seen| seen == key) => return Err(slow()),
                "services" => {
                    map.next_value_seed(ServicesSeed { builder: self.builder, declared: self.declared })?;
                }
                "sets" => map.next_value_seed(SetsSeed { sets: &mut sets, loader: self.loader })?,
                "rules" => map.next_value_seed(RulesSeed { builder: self.builder, sets: &sets })?,
                "routes" => *self.routes = map.next_value::<Text<Routes>>()?.0,
                _ => return Err(slow()),
            }
            seen.push(key.into_owned());
        }
        match seen.iter().any(|key| key == "rules") {
            true => Ok(()),
            false => Err(slow()),
        }
    }
}

struct ServicesSeed<'b> {
    builder: &'b mut Builder,
    declared: &'b mut Services,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceText {
    on_missing: Option<Text<OnMissing>>,
    listen: Option<List<Listen>>,
    unit: Option<Text<UnitName>>,
    cgroup: Option<Text<CgroupPath>>,
    user: Option<Text<UserName>>,
}

impl ServiceText {
    fn described(self) -> Described {
        let listen = self.listen.map(|listen| listen.values().to_vec());
        let (unit, cgroup) = (self.unit.map(|unit| unit.0), self.cgroup.map(|cgroup| cgroup.0));
        Described { listen, unit, cgroup, user: self.user.map(|user| user.0) }
    }
}

impl<'de> DeserializeSeed<'de> for ServicesSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ServicesSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of services by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let empty = Services::default();
        while let Some(Text(name)) = map.next_key::<Text<ServiceName>>()? {
            if self.declared.id(name.as_str()).is_some() {
                return Err(slow());
            }
            self.declared.ensure(&name, &empty).map_err(de::Error::custom)?;
            let id = self.builder.service(&name).map_err(de::Error::custom)?;
            let service: ServiceText = map.next_value()?;
            let policy = service.on_missing.as_ref().map_or_else(OnMissing::default, |text| text.0);
            self.builder.set_on_missing(id, policy);
            self.builder.set_description(id, service.described().description().map_err(|_| slow())?);
        }
        Ok(())
    }
}

struct SetsSeed<'a, 'h> {
    sets: &'a mut Sets,
    loader: &'a mut Loader<'h>,
}

/// A set as it is written.
#[derive(Deserialize)]
#[serde(untagged)]
enum SetText {
    Inline(Vec<Text<Prefix>>),
    File(SetFile),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetFile {
    file: String,
}

impl<'de> DeserializeSeed<'de> for SetsSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for SetsSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of sets by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let prefixes = match map.next_value::<SetText>()? {
                SetText::Inline(prefixes) => prefixes.into_iter().map(|text| text.0).collect(),
                SetText::File(SetFile { file }) => {
                    let file = self.loader.set(0, &file).map_err(|_| slow())?;
                    let prefixes: Result<_, _> = lines(&self.loader.text(file)).map(|(_, prefix)| prefix).collect();
                    prefixes.map_err(|_| slow())?
                }
            };
            if !self.sets.add(&name, prefixes) {
                return Err(slow());
            }
        }
        Ok(())
    }
}

struct RulesSeed<'b> {
    builder: &'b mut Builder,
    sets: &'b Sets,
}

impl<'de> DeserializeSeed<'de> for RulesSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for RulesSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rules")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(rule) = seq.next_element::<RuleText<'de>>()? {
            rule.push_to(self.builder, self.sets).ok_or_else(slow)?;
        }
        Ok(())
    }
}

/// A rule as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText<'a> {
    #[serde(borrow)]
    to: Option<Cow<'a, str>>,
    verdict: Option<Text<Plain>>,
    protocol: List<Protocol>,
    local: List<PrefixOrSet>,
    ports: List<Ports>,
    except: Option<List<Ports>>,
    from: Option<List<PrefixOrSet>>,
    iface: Option<Text<InterfaceName>>,
}

impl RuleText<'_> {
    fn push_to(&self, builder: &mut Builder, sets: &Sets) -> Option<()> {
        let verdict = self.verdict(builder)?;
        let iface = self.iface.as_ref().map(|name| builder.interface_named(&name.0)).transpose().ok()?;
        let ports = self.ports.values().iter().flat_map(Ports::ranges);
        let except = self.except(ports.clone())?;
        let sources = self.sources(sets)?;
        let local: Option<Vec<&[Prefix]>>;
        let locals: &[&[Prefix]] = match self.local.values() {
            [one] => &[sets.prefixes(one)?],
            several => {
                local = several.iter().map(|prefix| sets.prefixes(prefix)).collect();
                local.as_deref()?
            }
        };
        let locals = locals.iter().flat_map(|prefixes| prefixes.iter());
        if self.from.is_some() {
            check_families(locals.clone(), &sources).ok()?;
        }
        let parts = Parts { protocols: self.protocol.values(), sources: &sources, iface };
        parts.expand(locals, with_verdicts(ports, &except, verdict), |rule| builder.push(rule)).ok()
    }

    fn verdict(&self, builder: &mut Builder) -> Option<Verdict> {
        match (&self.to, &self.verdict) {
            (None, None) | (Some(_), Some(_)) => None,
            (None, Some(Text(plain))) => Some(plain.verdict()),
            (Some(name), None) => match builder.services().id(name) {
                Some(id) => Some(Verdict::Service(id)),
                None => Some(Verdict::Service(builder.service(&name.parse().ok()?).ok()?)),
            },
        }
    }

    fn except<'p>(&self, ports: impl Iterator<Item = &'p PortRange> + Clone) -> Option<Vec<PortRange>> {
        let Some(except) = &self.except else { return Some(Vec::new()) };
        let except: Vec<PortRange> = except.values().iter().flat_map(Ports::ranges).copied().collect();
        except.iter().all(|range| check_except(ports.clone(), *range).is_ok()).then_some(except)
    }

    fn sources(&self, sets: &Sets) -> Option<Vec<Option<Prefix>>> {
        let Some(from) = &self.from else { return Some(any_source()) };
        let mut sources = Vec::new();
        for source in from.values() {
            sources.extend(sets.prefixes(source)?.iter().copied().map(Some));
        }
        Some(sources)
    }
}
