//! Reads a ruleset the slow way: with the place of every value, and all mistakes rather than the first.
//!
//! Sets and services may stand in any file, so rules are read after all files.

mod grants;
mod nearest;
mod node;
mod rule;
mod values;

use std::collections::{BTreeMap, HashMap};

pub use self::nearest::nearest;
use self::node::{Key, Node, Value};
use super::diagnostic::{Diagnostic, Diagnostics, FileId, Place};
use super::keys::{Described, FILE, OwnBinds, SERVICE, SET, resolve_interfaces};
use super::loader::{Loader, NotIncluded};
use super::sets::{Sets, lines, put, without_inner};
use super::{Parsed, Routes, is_json};
use crate::rule::{Grant, OnMissing, Prefix, Remedy, ServiceName, Spread, Sticky};
use crate::ruleset::{BuildError, Builder, Conflict, Ruleset};

/// What has been read.
pub(super) struct Reader<'l, 'h> {
    pub(super) loader: &'l mut Loader<'h>,
    pub(super) builder: Builder,
    pub(super) found: Diagnostics,
    pub(super) services: BTreeMap<String, Place>,
    pub(super) sets: Sets,
    set_places: BTreeMap<String, Place>,
    routes: Option<(Routes, Place)>,
    has_rules: bool,
    pub(super) grants: Vec<(Grant, Place)>,
    /// The rules whose places are wanted, and their places so far.
    pub(super) wanted: HashMap<String, Vec<Place>>,
}

/// Reads file 0 of the loader and those that it includes.
pub(super) fn parse(mut loader: Loader<'_>, previous: &Ruleset) -> Result<Parsed, Diagnostics> {
    let Reader { builder, mut found, routes, .. } = read(&mut loader, previous, HashMap::new());
    match builder.finish() {
        Ok(ruleset) if found.count() == 0 => {
            let routes = routes.map(|(routes, _)| routes).unwrap_or_default();
            return Ok(Parsed { ruleset, routes, skipped: loader.skipped() });
        }
        Ok(_) => {}
        // The rules that conflict are known. Read once more to find where they stand.
        Err(BuildError::Conflict(conflicts)) => {
            let wanted = conflicts.iter().flat_map(|pair| [&pair.first, &pair.second]);
            let wanted = wanted.map(|rule| (rule.clone(), Vec::new())).collect();
            loader.start_again();
            let places = read(&mut loader, previous, wanted).wanted;
            conflicts.iter().for_each(|pair| found.push(conflict(pair, &places)));
        }
        Err(other) => found.push(with_remedy(Place::default(), &other)),
    }
    Err(found.finish(loader.into_files()))
}

fn read<'l, 'h>(loader: &'l mut Loader<'h>, previous: &Ruleset, wanted: HashMap<String, Vec<Place>>) -> Reader<'l, 'h> {
    let mut builder = Builder::successor_of(previous);
    loader.host.reserved().into_iter().for_each(|services| builder.reserve(services));
    let mut reader = Reader {
        loader,
        builder,
        found: Diagnostics::default(),
        services: BTreeMap::new(),
        sets: Sets::default(),
        set_places: BTreeMap::new(),
        routes: None,
        has_rules: false,
        grants: Vec::new(),
        wanted,
    };
    reader.files(vec![0], Vec::new());
    reader.overlaps();
    reader.finish_grants();
    if !reader.has_rules {
        let message = "no \"rules\"";
        let help = "a ruleset without any says so: rules = []";
        reader.found.push(Diagnostic::new(Place::default(), message).help(help).absent());
    }
    // Interfaces that cannot be named have been reported where they stand.
    let _ = resolve_interfaces(&mut reader.builder, reader.loader.host);
    reader
}

/// Two rules that tie, in the order in which they stand.
fn conflict(pair: &Conflict, places: &HashMap<String, Vec<Place>>) -> Diagnostic {
    let found =
        |rule: &String| places.get(rule).into_iter().flatten().map(|place| (place.clone(), rule.clone())).collect();
    let mut both: Vec<(Place, String)> =
        [&pair.first, &pair.second].into_iter().flat_map(|rule| -> Vec<_> { found(rule) }).collect();
    both.sort_by_key(|(place, _)| place.order());
    both.dedup();
    let (Some((first_place, first)), Some((place, second))) = (both.first().cloned(), both.last().cloned()) else {
        return Diagnostic::new(Place::default(), pair.to_string()).help(TIE);
    };
    let diagnostic = Diagnostic::new(place.clone(), Conflict { first, second }.to_string()).help(TIE);
    if place == first_place { diagnostic } else { diagnostic.related(first_place, "the other one") }
}

/// An error at a place, with its remedy.
fn with_remedy(place: Place, error: &impl Remedy) -> Diagnostic {
    let diagnostic = Diagnostic::new(place, error.to_string());
    match error.remedy() {
        Some(remedy) => diagnostic.help(remedy),
        None => diagnostic,
    }
}

/// What to do about two rules that tie.
const TIE: &str = "make one narrower or remove one";

impl Reader<'_, '_> {
    /// Reads the files that are left, the last one first. Each call holds the text of its file, and the rules so far
    /// borrow from those texts.
    fn files(&mut self, mut left: Vec<FileId>, rules: Vec<Node<'_>>) {
        let Some(file) = left.pop() else {
            return rules.iter().for_each(|rule| self.rule(rule));
        };
        let mut rules: Vec<Node<'_>> = rules;
        let text = self.loader.text(file);
        if is_json(self.loader.source(file)) {
            match node::json(file, &text) {
                Ok(root) => self.file(&root, file, &mut left, &mut rules),
                Err(error) => self.found.push(error.syntax()),
            }
            return self.files(left, rules);
        }
        let (root, errors) = node::toml(file, &text);
        errors.into_iter().for_each(|error| self.found.push(error.syntax()));
        self.file(&node::toml_root(file, &root), file, &mut left, &mut rules);
        self.files(left, rules);
    }

    fn file<'a>(&mut self, root: &Node<'a>, file: FileId, left: &mut Vec<FileId>, rules: &mut Vec<Node<'a>>) {
        for (key, node) in self.fields(root, FILE) {
            match key.name.as_ref() {
                "include" => left.extend(self.includes(file, &node).into_iter().rev()),
                "routes" => self.routes(&node),
                "services" => self.services(&node),
                "sets" => self.sets(file, &node),
                "grants" => self.grants(&node),
                _ => {
                    self.has_rules = true;
                    rules.extend(self.list(&node, "a list of rules"));
                }
            }
        }
    }

    fn includes(&mut self, by: FileId, node: &Node<'_>) -> Vec<FileId> {
        let mut files = Vec::new();
        for node in self.one_or_list(node) {
            let Some(name) = self.text(&node) else { continue };
            match self.loader.included_by(by, &name) {
                Ok(names) => files.extend(names.iter().filter_map(|name| self.include(by, name, &node))),
                Err(reason) => self.found.push(Diagnostic::new(node.place(), reason).absent()),
            }
        }
        files
    }

    /// One file that another one includes.
    fn include(&mut self, by: FileId, name: &str, node: &Node<'_>) -> Option<FileId> {
        let diagnostic = |message: String| Diagnostic::new(node.place(), message);
        let found = match self.loader.include(by, name) {
            Ok(file) => return Some(file),
            Err(NotIncluded::Unreadable(reason)) => diagnostic(reason).absent(),
            Err(NotIncluded::Circle) => {
                diagnostic(format!("{name} is being read: the files include each other")).help("leave this one out")
            }
            Err(NotIncluded::Twice) => diagnostic(format!("{name} is included already")).help("include each file once"),
        };
        self.found.push(found);
        None
    }

    fn routes(&mut self, node: &Node<'_>) {
        let Some(routes) = self.parsed(node) else { return };
        match &self.routes {
            Some((other, place)) if *other != routes => {
                let diagnostic =
                    Diagnostic::new(node.place(), "another file says otherwise").related(place.clone(), "there");
                self.found.push(diagnostic);
            }
            _ => self.routes = Some((routes, node.place())),
        }
    }

    fn services(&mut self, node: &Node<'_>) {
        for (key, node) in self.entries(node, "a table of services") {
            let Some(name) = self.parse::<ServiceName>(&key.name, &key.place) else { continue };
            if let Some(place) = self.services.get(name.as_str()) {
                let diagnostic = Diagnostic::new(key.place, format!("service {:?} is there twice", name.as_str()));
                self.found.push(diagnostic.related(place.clone(), "the first one"));
                continue;
            }
            self.services.insert(name.as_str().to_owned(), key.place.clone());
            self.service(&name, &key, &node);
        }
    }

    fn service(&mut self, name: &ServiceName, key: &Key<'_>, node: &Node<'_>) {
        let before = self.found.count();
        let (mut policy, mut spread, mut answers, mut sticky) = <(OnMissing, Spread, _, Sticky)>::default();
        let mut described = Described::default();
        for (key, node) in self.fields(node, SERVICE) {
            match key.name.as_ref() {
                _ if self.is_null(&node) => {}
                "on_missing" => policy = self.parsed(&node).unwrap_or_default(),
                "spread" => spread = self.parsed(&node).unwrap_or_default(),
                "answers" => answers = self.parsed(&node),
                "sticky" => sticky = self.text_or_number(&node, "a number of seconds").unwrap_or_default(),
                "listen" => {
                    let nodes = self.one_or_list(&node);
                    described.listen = Some(nodes.iter().filter_map(|node| self.listen(node)).collect());
                }
                "unit" => described.unit = self.parsed(&node),
                "cgroup" => described.cgroup = self.parsed(&node),
                "anyone" => described.anyone = self.flag(&node),
                "user" => described.user = self.parsed(&node),
                "no_mptcp" => described.no_mptcp = self.flag(&node),
                _ => described.own_binds = self.parsed::<OwnBinds>(&node).is_some(),
            }
        }
        let described = match described.description() {
            Ok(description) => description,
            Err(error) if self.found.count() == before => {
                self.found.push(with_remedy(key.place.clone(), &error));
                None
            }
            // A part of it is wrong and has been reported.
            Err(_) => None,
        };
        match self.builder.service(name) {
            Ok(id) => {
                self.builder.set_on_missing(id, policy);
                self.builder.set_spread(id, spread);
                self.builder.set_answers(id, answers);
                self.builder.set_sticky(id, sticky);
                self.builder.set_description(id, described);
            }
            Err(error) => self.found.push(with_remedy(key.place.clone(), &error)),
        }
    }

    /// Reports descriptions that could claim the same socket. The later one is reported, and left out of what follows.
    fn overlaps(&mut self) {
        while let Some((a, b, listen)) = self.builder.services().overlap() {
            let message = format!("services {a} and {b} could both claim a socket at {listen}");
            let place = |name: &ServiceName| self.services.get(name.as_str()).cloned().unwrap_or_default();
            let mut both = [(place(a), a.clone()), (place(b), b.clone())];
            both.sort_by_key(|(place, _)| place.order());
            let [(first, _), (second, name)] = both;
            let diagnostic = Diagnostic::new(second, message).help("let them differ in address, user, unit or cgroup");
            self.found.push(diagnostic.related(first, "the other one"));
            let Some(id) = self.builder.services().id(name.as_str()) else { return };
            self.builder.set_description(id, None);
        }
    }

    fn sets(&mut self, file: FileId, node: &Node<'_>) {
        for (key, node) in self.entries(node, "a table of sets") {
            let prefixes = self.set(file, &node);
            if let Some(place) = self.set_places.get(key.name.as_ref()) {
                let diagnostic = Diagnostic::new(key.place, format!("set {:?} is there twice", key.name));
                self.found.push(diagnostic.related(place.clone(), "the first one"));
                continue;
            }
            self.set_places.insert(key.name.as_ref().to_owned(), key.place);
            self.sets.add(&key.name, prefixes);
        }
    }

    fn set(&mut self, file: FileId, node: &Node<'_>) -> Vec<Prefix> {
        match self.value(node) {
            Some(Value::List(list)) => list.iter().filter_map(|node| self.parsed(node)).collect(),
            Some(Value::Table(_)) => {
                let fields = self.fields(node, SET);
                let lenient = fields.iter().filter(|(key, _)| key.name == "lenient").any(|(_, node)| self.flag(node));
                let named: Vec<_> = fields.iter().filter(|(key, _)| key.name == "file").collect();
                if named.is_empty() {
                    self.found
                        .push(Diagnostic::new(node.place(), "a set needs a list of prefixes or \"file\"").absent());
                }
                named.iter().flat_map(|(_, node)| self.set_file(file, node, lenient)).collect()
            }
            Some(other) => {
                self.wrong_kind(node, "a list of prefixes, or a table with \"file\"", &other);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    fn flag(&mut self, node: &Node<'_>) -> bool {
        match self.value(node) {
            Some(Value::Flag(flag)) => flag,
            Some(Value::Null) | None => false,
            Some(other) => {
                self.wrong_kind(node, "true or false", &other);
                false
            }
        }
    }

    /// The prefixes of a list; what is none is an error, unless the list may have such lines.
    fn set_file(&mut self, by: FileId, node: &Node<'_>, lenient: bool) -> Vec<Prefix> {
        let Some(name) = self.text(node) else { return Vec::new() };
        let file = match self.loader.set(by, &name) {
            Ok(file) => file,
            Err(reason) => {
                self.found.push(Diagnostic::new(node.place(), reason).absent());
                return Vec::new();
            }
        };
        let text = self.loader.text(file);
        let (mut prefixes, mut skipped) = (Vec::new(), Vec::new());
        for (span, listed) in lines(&text) {
            match listed {
                Ok(listed) => put(&mut prefixes, listed),
                Err(_) if lenient => skipped.push(span),
                Err(error) => self.found.push(with_remedy(Place::new(file, span), &error)),
            }
        }
        self.loader.skip(file, &skipped);
        without_inner(prefixes)
    }
}
