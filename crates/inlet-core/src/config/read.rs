//! Reading the JSON form: rules go into a builder as they are read, so a million of them need no second copy.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::sets::{NoSet, PrefixOrSet, ReadFile, Sets, SetsSeed};
use crate::{
    BuildError, Builder, CgroupPath, Confine, Description, DescriptionError, InterfaceName, Listen, Match, OnMissing,
    Ports, Prefix, Protocol, Rule, ServiceName, Services, UnitName, UserName, Verdict,
};

/// Why a text is not a ruleset.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON, or not of this form; the message tells line and column.
    #[error("{0}")]
    Syntax(#[from] serde_json::Error),
    /// A rule names a service that `services` does not list.
    #[error("a rule names service {name:?}, which \"services\" does not list; add {name:?}: {{}} there")]
    Undeclared {
        /// The service.
        name: String,
    },
}

/// Reads rules and services into `builder`, which should hold none yet. Interfaces are entered with index 0. `files` gives
/// the texts of the files that sets name.
///
/// # Errors
/// [`ConfigError`]; the builder is then of no use.
pub fn parse(text: &str, builder: &mut Builder, files: &mut ReadFile<'_>) -> Result<(), ConfigError> {
    let mut declared = Services::default();
    let mut json = serde_json::Deserializer::from_str(text);
    RootSeed { builder, declared: &mut declared, files }.deserialize(&mut json)?;
    json.end()?;
    match builder.services().iter().find(|(_, service)| declared.id(service.name.as_str()).is_none()) {
        Some((_, service)) => Err(ConfigError::Undeclared { name: service.name.as_str().to_owned() }),
        None => Ok(()),
    }
}

struct RootSeed<'b, 'f> {
    builder: &'b mut Builder,
    declared: &'b mut Services,
    files: &'b mut ReadFile<'f>,
}

impl<'de> DeserializeSeed<'de> for RootSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RootSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with \"services\" and \"rules\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut sets = Sets::default();
        let (mut services, mut rules) = (false, false);
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match key.as_ref() {
                "services" if services => return Err(de::Error::duplicate_field("services")),
                "rules" if rules => return Err(de::Error::duplicate_field("rules")),
                "services" => {
                    services = true;
                    map.next_value_seed(ServicesSeed { builder: self.builder, declared: self.declared })?;
                }
                "rules" => {
                    rules = true;
                    map.next_value_seed(RulesSeed { builder: self.builder, sets: &sets })?;
                }
                "sets" => map.next_value_seed(SetsSeed { sets: &mut sets, files: self.files })?,
                other => return Err(de::Error::unknown_field(other, &["services", "sets", "rules"])),
            }
        }
        match rules {
            true => Ok(()),
            false => Err(de::Error::missing_field("rules")),
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

#[derive(Debug, thiserror::Error)]
enum DescribedError {
    #[error("a service has \"unit\" or \"cgroup\", not both")]
    TwoPlaces,
    #[error("\"unit\", \"cgroup\" and \"user\" say more about \"listen\", which is not there")]
    NoListen,
    #[error(transparent)]
    Description(#[from] DescriptionError),
}

impl ServiceText {
    fn description(self) -> Result<Option<Description>, DescribedError> {
        let confine = match (self.unit, self.cgroup) {
            (Some(_), Some(_)) => return Err(DescribedError::TwoPlaces),
            (Some(unit), None) => Some(Confine::Unit(unit.0)),
            (None, Some(cgroup)) => Some(Confine::Cgroup(cgroup.0)),
            (None, None) => None,
        };
        let user = self.user.map(|user| user.0);
        match self.listen {
            None if confine.is_some() || user.is_some() => Err(DescribedError::NoListen),
            None => Ok(None),
            Some(listen) => {
                let mut description = Description::new(listen.values().iter().copied())?;
                (description.confine, description.user) = (confine, user);
                Ok(Some(description))
            }
        }
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
                return Err(de::Error::custom(format_args!("service {name:?} is listed twice", name = name.as_str())));
            }
            self.declared.ensure(&name, &empty).map_err(de::Error::custom)?;
            let id = self.builder.service(&name).map_err(de::Error::custom)?;
            let service: ServiceText = map.next_value()?;
            let policy = service.on_missing.as_ref().map_or_else(OnMissing::default, |text| text.0);
            self.builder.set_on_missing(id, policy);
            self.builder.set_description(id, service.description().map_err(de::Error::custom)?);
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
            rule.push_to(self.builder, self.sets).map_err(de::Error::custom)?;
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
    verdict: Option<Plain>,
    protocol: List<Protocol>,
    local: List<PrefixOrSet>,
    ports: List<Ports>,
    #[serde(default)]
    from: Option<List<PrefixOrSet>>,
    iface: Option<Text<InterfaceName>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Plain {
    Pass,
    Refuse,
}

#[derive(Debug, thiserror::Error)]
enum RuleError {
    #[error("a rule needs \"to\" or \"verdict\"")]
    NoVerdict,
    #[error("a rule has \"to\" or \"verdict\", not both")]
    TwoVerdicts,
    #[error(transparent)]
    Name(#[from] crate::NameError),
    #[error(transparent)]
    Service(#[from] crate::ServiceError),
    #[error(transparent)]
    Set(#[from] NoSet),
    #[error(transparent)]
    Build(#[from] BuildError),
}

impl RuleText<'_> {
    fn push_to(&self, builder: &mut Builder, sets: &Sets) -> Result<(), RuleError> {
        let verdict = self.verdict(builder)?;
        let iface = self.iface.as_ref().map(|name| builder.interface_named(&name.0)).transpose()?;
        let sources = self.sources(sets)?;
        for local in self.local.values() {
            for local in sets.prefixes(local)? {
                for ports in self.ports.values().iter().flat_map(Ports::ranges) {
                    for protocol in self.protocol.values() {
                        for source in &sources {
                            let (protocol, source) = (*protocol, *source);
                            let matching = Match { protocol, local: *local, ports: *ports, source, iface };
                            builder.push(&Rule { matching, verdict })?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Each source, or once none.
    fn sources(&self, sets: &Sets) -> Result<Vec<Option<Prefix>>, NoSet> {
        let Some(from) = &self.from else { return Ok(vec![None]) };
        let mut sources = Vec::new();
        for source in from.values() {
            sources.extend(sets.prefixes(source)?.iter().copied().map(Some));
        }
        Ok(sources)
    }

    fn verdict(&self, builder: &mut Builder) -> Result<Verdict, RuleError> {
        match (&self.to, self.verdict) {
            (None, None) => Err(RuleError::NoVerdict),
            (Some(_), Some(_)) => Err(RuleError::TwoVerdicts),
            (None, Some(Plain::Pass)) => Ok(Verdict::Pass),
            (None, Some(Plain::Refuse)) => Ok(Verdict::Refuse),
            (Some(name), None) => match builder.services().id(name) {
                Some(id) => Ok(Verdict::Service(id)),
                None => Ok(Verdict::Service(builder.service(&name.parse()?)?)),
            },
        }
    }
}

/// A value read from its text.
struct Text<T>(T);

/// One value or a list of values, each read from its text; at least one.
enum List<T> {
    One(T),
    Several(Vec<T>),
}

impl<T> List<T> {
    fn values(&self) -> &[T] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Several(values) => values,
        }
    }
}

struct TextVisitor<T>(PhantomData<T>);

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(TextVisitor(PhantomData))
    }
}

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for TextVisitor<T> {
    type Value = Text<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<T>, E> {
        text.parse().map(Text).map_err(E::custom)
    }

    /// A port may be written as a bare number.
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Text<T>, E> {
        self.visit_str(&number.to_string())
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(ListVisitor(PhantomData))
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Visitor<'de> for ListVisitor<T> {
    type Value = List<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<List<T>, E> {
        text.parse().map(List::One).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<List<T>, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<T>, A::Error> {
        let mut values = Vec::new();
        while let Some(Text(value)) = seq.next_element()? {
            values.push(value);
        }
        match values.is_empty() {
            true => Err(de::Error::invalid_length(0, &"at least one value")),
            false => Ok(List::Several(values)),
        }
    }
}
