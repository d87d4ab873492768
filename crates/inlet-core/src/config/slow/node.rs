//! One view of two notations: a value of a JSON or TOML text with its bytes, read one level at a time.
//!
//! The fast way uses the same JSON parser, so both accept the same texts as JSON.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::diagnostic::{Diagnostic, FileId, Place, floor};

/// A value in a file.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    file: FileId,
    value: Notation<'a>,
}

#[derive(Clone, Copy)]
enum Notation<'a> {
    /// The text of the value, and the address of the file's text.
    Json(&'a RawValue, usize),
    Toml(&'a Spanned<DeValue<'a>>),
}

/// A value and its children.
pub(super) enum Value<'a> {
    /// JSON's `null`: as if the key were absent.
    Null,
    Text(Cow<'a, str>),
    /// A whole number; as it is written when it is negative or too large.
    Number(std::result::Result<u64, Cow<'a, str>>),
    Flag(bool),
    List(Vec<Node<'a>>),
    Table(Vec<(Key<'a>, Node<'a>)>),
    /// A kind of value that no key has, in words.
    Other(&'static str),
}

/// A key of a table.
#[derive(Clone)]
pub(super) struct Key<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) place: Place,
}

impl<'a> Node<'a> {
    /// Where it stands. For a table of several lines, only its first line.
    pub(super) fn place(&self) -> Place {
        let span = match self.value {
            Notation::Json(raw, base) => {
                let start = raw.get().as_ptr() as usize - base;
                let first_line = raw.get().split('\n').next().unwrap_or_default();
                start..start + first_line.trim_end().len()
            }
            Notation::Toml(value) => value.span(),
        };
        Place::new(self.file, span)
    }

    /// What it is.
    ///
    /// # Errors
    /// A JSON string with half of a surrogate pair.
    pub(super) fn value(&self) -> Result<Value<'a>, Diagnostic> {
        match self.value {
            Notation::Toml(value) => Ok(self.toml(value.get_ref())),
            Notation::Json(raw, base) => {
                self.json(raw, base).map_err(|error| Diagnostic::new(self.place(), unplaced(&error)))
            }
        }
    }

    fn json(&self, raw: &'a RawValue, base: usize) -> serde_json::Result<Value<'a>> {
        let at = |raw| Node { file: self.file, value: Notation::Json(raw, base) };
        let text = raw.get();
        Ok(match text.as_bytes().first() {
            Some(b'n') => Value::Null,
            Some(b't' | b'f') => Value::Flag(text == "true"),
            Some(b'"') => Value::Text(serde_json::from_str::<Text<'a>>(text)?.0),
            Some(b'[') => Value::List(serde_json::from_str::<Vec<&RawValue>>(text)?.into_iter().map(at).collect()),
            Some(b'{') => {
                let fields = serde_json::from_str::<Fields<'a>>(text)?.0;
                let key = |raw: &'a RawValue| -> serde_json::Result<Key<'a>> {
                    Ok(Key { name: serde_json::from_str::<Text<'a>>(raw.get())?.0, place: at(raw).place() })
                };
                Value::Table(
                    fields
                        .into_iter()
                        .map(|(name, value)| Ok((key(name)?, at(value))))
                        .collect::<Result<_, serde_json::Error>>()?,
                )
            }
            _ => Value::Number(text.parse().map_err(|_| Cow::Borrowed(text))),
        })
    }

    fn toml(&self, value: &'a DeValue<'a>) -> Value<'a> {
        let at = |value| Node { file: self.file, value: Notation::Toml(value) };
        match value {
            DeValue::String(text) => Value::Text(Cow::Borrowed(text)),
            DeValue::Integer(number) => {
                let text = number.as_str();
                Value::Number(u64::from_str_radix(text, number.radix()).map_err(|_| Cow::Borrowed(text)))
            }
            DeValue::Array(list) => Value::List(list.iter().map(at).collect()),
            DeValue::Table(table) => {
                let key = |key: &'a Spanned<Cow<'a, str>>| Key {
                    name: Cow::Borrowed(key.get_ref()),
                    place: Place::new(self.file, key.span()),
                };
                Value::Table(table.iter().map(|(name, value)| (key(name), at(value))).collect())
            }
            DeValue::Float(_) => Value::Other("a number with a fraction"),
            DeValue::Boolean(flag) => Value::Flag(*flag),
            DeValue::Datetime(_) => Value::Other("a date or time"),
        }
    }
}

impl Value<'_> {
    /// The kind of value, in words.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Flag(_) => "true or false",
            Self::Null => "null",
            Self::Text(_) => "a string",
            Self::Number(_) => "a number",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

/// Reads a JSON text into its uppermost value.
pub(super) fn json<'a>(file: FileId, text: &'a str) -> Result<Node<'a>, Diagnostic> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| syntax(file, text, &error))?;
    Ok(Node { file, value: Notation::Json(raw, text.as_ptr() as usize) })
}

/// Reads a TOML text. Where it is not TOML, as much of it as possible.
pub(super) fn toml(file: FileId, text: &str) -> (Spanned<DeValue<'_>>, Vec<Diagnostic>) {
    let (root, errors) = DeTable::parse_recoverable(text);
    let place = |span: Option<Range<usize>>| Place::new(file, span.unwrap_or(text.len()..text.len()));
    let errors = errors.iter().map(|error| Diagnostic::new(place(error.span()), error.message())).collect();
    (Spanned::new(0..0, DeValue::Table(root.into_inner())), errors)
}

/// The uppermost value of a TOML text.
pub(super) fn toml_root<'a>(file: FileId, root: &'a Spanned<DeValue<'a>>) -> Node<'a> {
    Node { file, value: Notation::Toml(root) }
}

/// The place where a text is not JSON. The parser gives line and byte, counted from 1.
fn syntax(file: FileId, text: &str, error: &serde_json::Error) -> Diagnostic {
    let line = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
    let start =
        if error.is_eof() { text.trim_end().len() } else { floor(text, line + error.column().saturating_sub(1)) };
    let len = text[start..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
    Diagnostic::new(Place::new(file, start..start + len), unplaced(error))
}

/// The message without the parser's place, which may be relative to a part of the text.
fn unplaced(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let cut = text.rfind(" at line ").unwrap_or(text.len());
    text[..cut].to_owned()
}

/// A string, borrowed from the text when it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The keys and values of an object, in order.
struct Fields<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Vec<(&'de RawValue, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(fields)
            }
        }
        json.deserialize_map(FieldsVisitor).map(Fields)
    }
}
