//! Reads one rule the slow way.

use std::str::FromStr;

use super::nearest::suggestion;
use super::node::{Node, Value};
use super::{Reader, with_remedy};
use crate::config::diagnostic::{Diagnostic, Place};
use crate::config::expand::{ANY_SOURCE, Parts, check_except, check_families};
use crate::config::keys::{Plain, RULE};
use crate::config::sets::PrefixOrSet;
use crate::rule::{IfaceId, InterfaceName, Mark, PortRange, Ports, Prefix, Protocol, Remedy, Verdict};
use crate::ruleset::BuildError;

/// The values of a rule, still unread.
#[derive(Default)]
struct Keys<'a> {
    to: Option<Node<'a>>,
    verdict: Option<Node<'a>>,
    protocol: Option<Node<'a>>,
    local: Option<Node<'a>>,
    ports: Option<Node<'a>>,
    except: Option<Node<'a>>,
    from: Option<Node<'a>>,
    iface: Option<Node<'a>>,
    mark: Option<Node<'a>>,
}

/// A value with its place.
type At<T> = (T, Place);

impl<'a> Reader<'_, '_> {
    /// Reads a rule. A rule with a mistake adds nothing to the ruleset.
    pub(super) fn rule(&mut self, node: &Node<'a>) {
        let before = self.found.count();
        let Some(keys) = self.keys(node) else { return };
        let verdict = self.verdict(node, &keys);
        let protocols = self.needed(node, keys.protocol, "protocol", |reader, node| reader.parsed::<Protocol>(node));
        let local = self.needed(node, keys.local, "local", Self::prefixes);
        let ports = self.needed(node, keys.ports, "ports", Self::ports);
        let ports: Vec<PortRange> = ports.into_iter().flat_map(|(ports, _)| ports.ranges().to_vec()).collect();
        let except = self.excepted(keys.except, &ports);
        let sources = self.sources(keys.from, &local);
        let iface = keys.iface.and_then(|node| self.iface(&node));
        let mark = keys.mark.and_then(|node| self.text_or_number::<Mark>(&node, "a mark"));
        let (Some(verdict), true) = (verdict, self.found.count() == before) else { return };
        let protocols: Vec<Protocol> = protocols.into_iter().map(|(protocol, _)| protocol).collect();
        let parts = Parts { protocols: &protocols, sources: &sources, iface, mark };
        for (local, place) in &local {
            self.push(&parts, local, place, ports.iter().map(|range| (*range, verdict)));
            for (range, place) in &except {
                self.push(&parts, local, place, std::iter::once((*range, Verdict::Pass)));
            }
        }
    }

    fn keys(&mut self, node: &Node<'a>) -> Option<Keys<'a>> {
        if !matches!(self.value(node)?, Value::Table(_)) {
            self.fields(node, RULE);
            return None;
        }
        let mut keys = Keys::default();
        for (key, node) in self.fields(node, RULE) {
            let place = match key.name.as_ref() {
                "to" => &mut keys.to,
                "verdict" => &mut keys.verdict,
                "protocol" => &mut keys.protocol,
                "local" => &mut keys.local,
                "ports" => &mut keys.ports,
                "except" => &mut keys.except,
                "from" => &mut keys.from,
                "iface" => &mut keys.iface,
                _ => &mut keys.mark,
            };
            let needed = matches!(key.name.as_ref(), "protocol" | "local" | "ports");
            *place = (needed || !self.is_null(&node)).then_some(node);
        }
        Some(keys)
    }

    fn verdict(&mut self, rule: &Node<'a>, keys: &Keys<'a>) -> Option<Verdict> {
        match (&keys.to, &keys.verdict) {
            (None, None) => {
                let diagnostic = Diagnostic::new(rule.place(), "the rule has neither \"to\" nor \"verdict\"");
                self.found.push(diagnostic.help("say which service receives the packets, or pass or refuse").absent());
                None
            }
            (Some(to), Some(verdict)) => {
                let diagnostic =
                    Diagnostic::new(verdict.place(), "the rule has \"to\" and \"verdict\"").help("leave one out");
                self.found.push(diagnostic.related(to.place(), "the other one"));
                None
            }
            (None, Some(verdict)) => self.parsed::<Plain>(verdict).map(Plain::verdict),
            (Some(to), None) => self.service_named(to),
        }
    }

    fn service_named(&mut self, node: &Node<'a>) -> Option<Verdict> {
        let name = self.text(node)?;
        if self.services.contains_key(name.as_ref()) {
            return self.builder.services().id(&name).map(Verdict::Service);
        }
        let diagnostic = Diagnostic::new(node.place(), format!("no service {name:?}"));
        let known = self.services.keys().map(String::as_str);
        let help = suggestion(&name, "the services are", known).unwrap_or_else(|| "list it under services".to_owned());
        self.found.push(diagnostic.help(help).absent());
        None
    }

    /// The values of a key that a rule must have.
    fn needed<T>(
        &mut self,
        rule: &Node<'a>,
        node: Option<Node<'a>>,
        key: &str,
        read: impl Fn(&mut Self, &Node<'a>) -> Option<T>,
    ) -> Vec<At<T>> {
        match node {
            Some(node) => self.values(&node, read),
            None => {
                self.found.push(Diagnostic::new(rule.place(), format!("the rule has no {key:?}")).absent());
                Vec::new()
            }
        }
    }

    fn values<T>(&mut self, node: &Node<'a>, read: impl Fn(&mut Self, &Node<'a>) -> Option<T>) -> Vec<At<T>> {
        let nodes = self.one_or_list(node);
        nodes.iter().filter_map(|node| Some((read(self, node)?, node.place()))).collect()
    }

    fn prefixes(&mut self, node: &Node<'a>) -> Option<PrefixOrSet> {
        let text: PrefixOrSet = self.parsed(node)?;
        if let PrefixOrSet::Set(name) = &text
            && self.sets.prefixes(&text).is_none()
        {
            let diagnostic = Diagnostic::new(node.place(), format!("no set {name:?}"));
            let help = suggestion(name, "the sets are", self.sets.names());
            self.found.push(diagnostic.help(help.unwrap_or_else(|| "list it under sets".to_owned())).absent());
            return None;
        }
        Some(text)
    }

    pub(super) fn ports(&mut self, node: &Node<'_>) -> Option<Ports> {
        self.text_or_number(node, "a port, a range or \"any\"")
    }

    /// A value that may be written as a bare number.
    pub(super) fn text_or_number<T: FromStr<Err: Remedy>>(&mut self, node: &Node<'a>, expected: &str) -> Option<T> {
        match self.value(node)? {
            Value::Number(Ok(number)) => self.parse(&number.to_string(), &node.place()),
            Value::Text(text) | Value::Number(Err(text)) => self.parse(&text, &node.place()),
            other => {
                self.wrong_kind(node, expected, &other);
                None
            }
        }
    }

    fn excepted(&mut self, node: Option<Node<'a>>, ports: &[PortRange]) -> Vec<At<PortRange>> {
        let Some(node) = node else { return Vec::new() };
        let mut excepted = Vec::new();
        for (except, place) in self.values(&node, Self::ports) {
            for range in except.ranges() {
                // When there are no ports, that has been reported already.
                match check_except(ports.iter(), *range) {
                    Err(error) if !ports.is_empty() => {
                        self.found.push(Diagnostic::new(place.clone(), error.to_string()))
                    }
                    _ => excepted.push((*range, place.clone())),
                }
            }
        }
        excepted
    }

    fn sources(&mut self, node: Option<Node<'a>>, local: &[At<PrefixOrSet>]) -> Vec<Option<Prefix>> {
        let Some(node) = node else { return ANY_SOURCE.to_vec() };
        let from = self.values(&node, Self::prefixes);
        let prefixes = |all: &[At<PrefixOrSet>]| -> Vec<Prefix> {
            all.iter().filter_map(|(text, _)| self.sets.prefixes(text)).flatten().copied().collect()
        };
        let sources: Vec<Option<Prefix>> = prefixes(&from).into_iter().map(Some).collect();
        let given = local.iter().chain(&from).filter_map(|(text, _)| text.prefix());
        if let Err(error) = check_families(prefixes(local).iter(), &sources, given) {
            self.found.push(Diagnostic::new(node.place(), error.to_string()));
        }
        sources
    }

    fn iface(&mut self, node: &Node<'a>) -> Option<IfaceId> {
        let name: InterfaceName = self.parsed(node)?;
        if !self.is_interface(&name, node) {
            return None;
        }
        self.builder.interface_named(&name).map_err(|error| self.found.push(with_remedy(node.place(), &error))).ok()
    }

    /// Adds the rules of one local prefix or set; in the second reading, notes the places of wanted rules instead.
    fn push(
        &mut self,
        parts: &Parts<'_>,
        local: &PrefixOrSet,
        place: &Place,
        ports: impl Iterator<Item = (PortRange, Verdict)> + Clone,
    ) {
        let Self { builder, sets, wanted, .. } = self;
        let prefixes = sets.prefixes(local).unwrap_or_default().iter();
        let pushed: Result<(), BuildError> = match wanted.is_empty() {
            true => parts.expand(prefixes, ports, |rule| builder.push(rule)),
            false => parts.expand(prefixes, ports, |rule| {
                if let Some(places) = wanted.get_mut(&builder.named(&rule.canonical()).to_string()) {
                    places.push(place.clone());
                }
                Ok(())
            }),
        };
        if let Err(error) = pushed {
            self.found.push(with_remedy(place.clone(), &error));
        }
    }
}
