//! Reads JSON without mistakes. Rules go into a builder as they are read, so a million of them need no second copy.
//!
//! Anything unusual or wrong stops it without a message. Then [`super::slow`] reads the text again and has the last
//! word on what is an error. It accepts every text that this accepts, with the same result.

mod grants;
mod halves;
mod rule;
mod values;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use self::grants::GrantText;
use self::halves::Halves;
use self::rule::{Known, RuleText};
use self::values::{List, Text};
use super::keys::{Described, OwnBinds, resolve_interfaces};
use super::loader::Loader;
use super::sets::{Sets, lines, put, without_inner};
use super::{Parsed, Routes};
use crate::rule::{
    Answers, CgroupPath, Listen, OnMissing, Prefix, ServiceName, Services, Spread, Sticky, UnitName, UserName,
};
use crate::ruleset::{Builder, Ruleset};

/// Reads file 0 of the loader; `None` when it has to be read the slow way.
pub(super) fn parse(loader: &mut Loader<'_>, previous: &Ruleset) -> Option<Parsed> {
    let text = loader.text(0);
    let halved = Halves::worthwhile(&text).and_then(|halves| read_halves(&halves, loader, previous));
    halved.or_else(|| Read::root(&text, loader, previous)?.finish(loader))
}

/// Reads file 0 in halves, however short it is; `None` also when it cannot be cut.
#[cfg(feature = "arbitrary")]
pub(super) fn parse_halves(loader: &mut Loader<'_>, previous: &Ruleset) -> Option<Parsed> {
    read_halves(&Halves::of(&loader.text(0))?, loader, previous)
}

/// Reads the rules of both halves at once.
fn read_halves(halves: &Halves<'_>, loader: &mut Loader<'_>, previous: &Ruleset) -> Option<Parsed> {
    let mut read = Read::root(&halves.head, loader, previous)?;
    let (first, second) = halves.rules(&read.builder, &read.sets)?;
    if !read.all_declared(&first) || !read.all_declared(&second) {
        return None;
    }
    read.builder = first;
    read.builder.absorb(second).ok()?;
    read.finish(loader)
}

/// What has been read.
struct Read {
    builder: Builder,
    declared: Services,
    routes: Routes,
    sets: Sets,
}

impl Read {
    /// Reads a whole text.
    fn root(text: &str, loader: &mut Loader<'_>, previous: &Ruleset) -> Option<Self> {
        let (declared, routes, sets) = Default::default();
        let mut builder = Builder::successor_of(previous);
        loader.host.reserved().into_iter().for_each(|services| builder.reserve(services));
        let mut read = Self { builder, declared, routes, sets };
        let mut json = serde_json::Deserializer::from_str(text);
        Root { read: &mut read, loader }.deserialize(&mut json).ok()?;
        json.end().ok()?;
        Some(read)
    }

    fn all_declared(&self, builder: &Builder) -> bool {
        builder.services().iter().all(|(_, service)| self.declared.id(service.name.as_str()).is_some())
    }

    fn finish(mut self, loader: &mut Loader<'_>) -> Option<Parsed> {
        if !self.all_declared(&self.builder) || !resolve_interfaces(&mut self.builder, loader.host).is_empty() {
            return None;
        }
        Some(Parsed { ruleset: self.builder.finish().ok()?, routes: self.routes, skipped: loader.skipped() })
    }
}

/// The error that stops the fast way. Nobody reads its text.
pub(super) fn slow<E: de::Error>() -> E {
    E::custom("to be read the slow way")
}

struct Root<'b, 'h> {
    read: &'b mut Read,
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
        let Read { builder, declared, routes, sets } = self.read;
        let mut seen = Vec::new();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match key.as_ref() {
                key if seen.iter().any(|seen| seen == key) => return Err(slow()),
                "services" => {
                    map.next_value_seed(ServicesSeed { builder, declared })?;
                }
                "sets" => map.next_value_seed(SetsSeed { sets, loader: self.loader })?,
                "rules" => map.next_value_seed(RulesSeed { builder, sets })?,
                "grants" => {
                    let grants = map.next_value::<Vec<GrantText>>()?.into_iter().map(GrantText::grant);
                    builder.set_grants(grants.collect::<Option<_>>().ok_or_else(slow)?);
                }
                "routes" => *routes = map.next_value::<Text<Routes>>()?.0,
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
    spread: Option<Text<Spread>>,
    answers: Option<Text<Answers>>,
    sticky: Option<Text<Sticky>>,
    listen: Option<List<Listen>>,
    unit: Option<Text<UnitName>>,
    cgroup: Option<Text<CgroupPath>>,
    user: Option<Text<UserName>>,
    anyone: Option<bool>,
    no_mptcp: Option<bool>,
    binds: Option<Text<OwnBinds>>,
}

impl ServiceText {
    fn described(self) -> Described {
        let listen = self.listen.map(|listen| listen.values().to_vec());
        let (unit, cgroup) = (self.unit.map(|unit| unit.0), self.cgroup.map(|cgroup| cgroup.0));
        let (anyone, no_mptcp) = (self.anyone.unwrap_or_default(), self.no_mptcp.unwrap_or_default());
        let own_binds = self.binds.is_some();
        Described { listen, unit, cgroup, user: self.user.map(|user| user.0), anyone, no_mptcp, own_binds }
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
            self.declared.ensure(&name, &empty, &BTreeSet::new()).map_err(de::Error::custom)?;
            let id = self.builder.service(&name).map_err(de::Error::custom)?;
            let service: ServiceText = map.next_value()?;
            let policy = service.on_missing.as_ref().map_or_else(OnMissing::default, |text| text.0);
            self.builder.set_on_missing(id, policy);
            self.builder.set_spread(id, service.spread.as_ref().map_or_else(Spread::default, |text| text.0));
            self.builder.set_answers(id, service.answers.as_ref().map(|text| text.0));
            self.builder.set_sticky(id, service.sticky.as_ref().map_or_else(Sticky::default, |text| text.0));
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
    #[serde(default)]
    lenient: bool,
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
                SetText::File(SetFile { file, lenient }) => {
                    let file = self.loader.set(0, &file).map_err(|_| slow())?;
                    let (mut prefixes, mut skipped) = (Vec::new(), Vec::new());
                    for (span, listed) in lines(&self.loader.text(file)) {
                        match listed {
                            Ok(listed) => put(&mut prefixes, listed),
                            Err(_) if lenient => skipped.push(span),
                            Err(_) => return Err(slow()),
                        }
                    }
                    self.loader.skip(file, &skipped);
                    without_inner(prefixes)
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
        let mut known = Known::default();
        while let Some(rule) = seq.next_element::<RuleText<'de>>()? {
            rule.push_to(self.builder, self.sets, &mut known).ok_or_else(slow)?;
        }
        Ok(())
    }
}
