//! Reads JSON values from their text, alone or in lists. A wrong value gives no message.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use super::slow;
use crate::config::Routes;
use crate::config::keys::{OwnBinds, Plain};
use crate::config::sets::PrefixOrSet;
use crate::rule::{
    Answers, CgroupPath, InterfaceName, Listen, Mark, OnMissing, Ports, Prefix, Protocol, ServiceName, Spread, Sticky,
    UnitName, UserName,
};

/// A type that a text in the file can have, and whether a bare number may stand for it.
pub(super) trait Written: FromStr {
    const NUMBERS: bool = false;
}

impl Written for Ports {
    const NUMBERS: bool = true;
}

impl Written for Mark {
    const NUMBERS: bool = true;
}

impl Written for Sticky {
    const NUMBERS: bool = true;
}

impl Written for CgroupPath {}
impl Written for InterfaceName {}
impl Written for Listen {}
impl Written for OnMissing {}
impl Written for Answers {}
impl Written for OwnBinds {}
impl Written for Plain {}
impl Written for Prefix {}
impl Written for PrefixOrSet {}
impl Written for Protocol {}
impl Written for Routes {}
impl Written for ServiceName {}
impl Written for Spread {}
impl Written for UnitName {}
impl Written for UserName {}

/// A value read from its text.
pub(super) struct Text<T>(pub(super) T);

/// One value or a list of values, each read from its text; at least one.
pub(super) enum List<T> {
    One(T),
    Several(Vec<T>),
}

impl<T> List<T> {
    pub(super) fn values(&self) -> &[T] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Several(values) => values,
        }
    }
}

struct TextVisitor<T>(PhantomData<T>);

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Written> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(TextVisitor(PhantomData))
    }
}

impl<T: Written> Visitor<'_> for TextVisitor<T> {
    type Value = Text<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<T>, E> {
        text.parse().map(Text).map_err(|_| slow())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Text<T>, E> {
        if T::NUMBERS { self.visit_str(&number.to_string()) } else { Err(slow()) }
    }
}

impl<'de, T: Written> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(ListVisitor(PhantomData))
    }
}

impl<'de, T: Written> Visitor<'de> for ListVisitor<T> {
    type Value = List<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<List<T>, E> {
        text.parse().map(List::One).map_err(|_| slow())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<List<T>, E> {
        if T::NUMBERS { self.visit_str(&number.to_string()) } else { Err(slow()) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<T>, A::Error> {
        let mut values = Vec::new();
        while let Some(Text(value)) = seq.next_element()? {
            values.push(value);
        }
        match values.is_empty() {
            true => Err(slow()),
            false => Ok(List::Several(values)),
        }
    }
}
