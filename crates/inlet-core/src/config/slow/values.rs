//! Reads values of any kind the slow way, and reports values of the wrong kind.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str::FromStr;

use super::nearest::suggestion;
use super::node::{Key, Node, Value};
use super::{Reader, with_remedy};
use crate::config::diagnostic::{Diagnostic, Place};
use crate::rule::{InterfaceName, Listen, Remedy};

impl<'a> Reader<'_, '_> {
    /// The fields of a table with known keys. Reports other keys, and keys that stand there twice.
    pub(super) fn fields(&mut self, node: &Node<'a>, known: &[&str]) -> Vec<(Key<'a>, Node<'a>)> {
        let mut fields = self.entries(node, &format!("a table with {}", known.join(", ")));
        fields.retain(|(key, _)| {
            let is_known = known.contains(&key.name.as_ref());
            if !is_known {
                let diagnostic = Diagnostic::new(key.place.clone(), format!("unknown key {:?}", key.name));
                let help = suggestion(&key.name, "the keys here are", known.iter().copied());
                self.found.push(diagnostic.help(help.unwrap_or_default()));
            }
            is_known
        });
        fields
    }

    /// The fields of a table with any keys. TOML has no key twice.
    pub(super) fn entries(&mut self, node: &Node<'a>, expected: &str) -> Vec<(Key<'a>, Node<'a>)> {
        let fields = match self.value(node) {
            Some(Value::Table(fields)) => fields,
            Some(other) => {
                self.wrong_kind(node, expected, &other);
                return Vec::new();
            }
            None => return Vec::new(),
        };
        let mut seen: BTreeMap<String, Place> = BTreeMap::new();
        for (key, _) in &fields {
            if let Some(first) = seen.insert(key.name.as_ref().to_owned(), key.place.clone()) {
                let diagnostic = Diagnostic::new(key.place.clone(), format!("key {:?} is there twice", key.name));
                self.found.push(diagnostic.related(first, "the first one"));
            }
        }
        fields
    }

    pub(super) fn list(&mut self, node: &Node<'a>, expected: &str) -> Vec<Node<'a>> {
        match self.value(node) {
            Some(Value::List(list)) => list,
            Some(other) => {
                self.wrong_kind(node, expected, &other);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// The values of a list of at least one, or the one value.
    pub(super) fn one_or_list(&mut self, node: &Node<'a>) -> Vec<Node<'a>> {
        match self.value(node) {
            Some(Value::List(list)) => {
                if list.is_empty() {
                    self.found.push(Diagnostic::new(node.place(), "an empty list").help("give at least one value"));
                }
                list
            }
            Some(_) => vec![*node],
            None => Vec::new(),
        }
    }

    pub(super) fn text(&mut self, node: &Node<'a>) -> Option<Cow<'a, str>> {
        match self.value(node)? {
            Value::Text(text) => Some(text),
            other => {
                self.wrong_kind(node, "a string", &other);
                None
            }
        }
    }

    /// A value from its text.
    pub(super) fn parsed<T: FromStr<Err: Remedy>>(&mut self, node: &Node<'a>) -> Option<T> {
        let text = self.text(node)?;
        self.parse(&text, &node.place())
    }

    pub(super) fn parse<T: FromStr<Err: Remedy>>(&mut self, text: &str, place: &Place) -> Option<T> {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.found.push(with_remedy(place.clone(), &error));
                None
            }
        }
    }

    /// An address of sockets. The interface that it may name must be there.
    pub(super) fn listen(&mut self, node: &Node<'_>) -> Option<Listen> {
        let listen: Listen = self.parsed(node)?;
        let there = listen.device().is_none_or(|name| self.is_interface(&name, node));
        there.then_some(listen)
    }

    /// Whether there is such an interface. Reports it when there is none.
    pub(super) fn is_interface(&mut self, name: &InterfaceName, node: &Node<'_>) -> bool {
        let Err(reason) = self.loader.host.interface(name) else { return true };
        let diagnostic = Diagnostic::new(node.place(), reason.message);
        self.found.push(match reason.remedy {
            Some(remedy) => diagnostic.help(remedy),
            None => diagnostic,
        });
        false
    }

    pub(super) fn value(&mut self, node: &Node<'a>) -> Option<Value<'a>> {
        node.value().map_err(|error| self.found.push(error)).ok()
    }

    /// Whether JSON says that the key is absent.
    pub(super) fn is_null(&mut self, node: &Node<'a>) -> bool {
        matches!(node.value(), Ok(Value::Null))
    }

    pub(super) fn wrong_kind(&mut self, node: &Node<'a>, expected: &str, found: &Value<'_>) {
        let diagnostic = Diagnostic::new(node.place(), format!("this is {}, not {expected}", found.kind()));
        self.found.push(diagnostic);
    }
}
