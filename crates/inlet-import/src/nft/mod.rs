//! What `nft -j list ruleset` writes: tables, chains, sets and rules as JSON.

mod field;
mod rule;
mod sets;
mod statement;
mod values;

use std::collections::{BTreeMap, BTreeSet};

use inlet_core::Family;
use serde_json::Value;

use self::rule::Reader;
use self::sets::NamedSet;
use crate::firewall::{Action, Base, Chain, ChainId, Firewall, Rule, Step};
use crate::iptables::{CHANGES, REDIRECTS, RELIES};
use crate::{ImportError, Left};

/// Family, table and the name of a thing in it.
type Name = (String, String, String);

/// Reads the document.
pub(crate) fn read(text: &str) -> Result<Firewall, ImportError> {
    let document: Value = serde_json::from_str(text).map_err(ImportError::Nft)?;
    let objects = document.get("nftables").and_then(Value::as_array).ok_or(ImportError::Unknown)?;
    let of = |kind: &'static str| objects.iter().filter_map(move |object| object.get(kind));
    let mut firewall = Firewall::default();
    let dormant: BTreeSet<(String, String)> = of("table")
        .filter(|table| is_dormant(table))
        .map(|table| (text_of(table, "family"), text_of(table, "name")))
        .collect();
    let is_dormant = |object: &Value| dormant.contains(&(text_of(object, "family"), text_of(object, "table")));
    let sets: BTreeMap<Name, NamedSet> =
        of("set").chain(of("map")).map(|set| (name_of(set, "name"), NamedSet::read(set))).collect();
    let mut chains: BTreeMap<Name, ChainId> = BTreeMap::new();
    for chain in of("chain") {
        firewall.chains.push(Chain::default());
        chains.insert(name_of(chain, "name"), firewall.chains.len() - 1);
    }
    let nat: BTreeSet<Name> = of("chain")
        .filter(|chain| chain["type"] == "nat" && chain["hook"] == "prerouting")
        .map(|chain| name_of(chain, "name"))
        .collect();
    let input: BTreeSet<Name> =
        of("chain").filter(|chain| chain["hook"] == "input").map(|chain| name_of(chain, "name")).collect();
    let mut used = BTreeSet::new();
    let mut changed: Vec<(Name, Left)> = Vec::new();
    let (mut redirects, mut relying) = (Vec::new(), Vec::new());
    let mut asleep = BTreeSet::new();
    for rule in of("rule") {
        let chain = name_of(rule, "chain");
        let expressions = rule["expr"].as_array().map(Vec::as_slice).unwrap_or_default();
        let has = |kinds: &[&str]| {
            expressions.iter().any(|expression| kinds.iter().any(|kind| expression.get(kind).is_some()))
        };
        if is_dormant(rule) {
            asleep.extend(has(&["tproxy", "vmap"]).then(|| (chain.0.clone(), chain.1.clone())));
            continue;
        }
        let mut made = Rule { place: place(rule, &chain), text: shown(expressions), ..Rule::default() };
        made.comment = rule["comment"].as_str().map(str::to_owned);
        if nat.contains(&chain) {
            if has(&["redirect", "dnat"]) {
                redirects.push(made.left(REDIRECTS, false));
            }
            continue;
        }
        if input.contains(&chain) {
            relying.extend(asks_for_mark(expressions).then(|| made.left(RELIES, false)));
            continue;
        }
        let Some(number) = chains.get(&chain) else {
            firewall.told.push(made.left(format!("there is no chain {}", chain.2), true));
            continue;
        };
        let mut reader = Reader::new(&mut firewall, &chains, &sets, &chain);
        made.steps = reader.steps(expressions);
        used.append(&mut reader.used);
        let changed_here = std::mem::take(&mut reader.changed);
        changed.extend(changed_here.into_iter().map(|name| (name, made.left(CHANGES, false))));
        firewall.push(*number, made);
    }
    for (family, table) in asleep {
        let why = "the table is dormant: its rules are not in force, and are not imported".to_owned();
        let place = format!("table {family} {table}");
        firewall.told.push(Left { place, text: "flags dormant".to_owned(), why, todo: false });
    }
    bases(&mut firewall, of("chain").filter(|chain| !is_dormant(chain)), &chains);
    if firewall.has_tproxy() {
        firewall.told.extend(redirects);
    }
    if firewall.has_tproxy() && firewall.gives_marks() {
        firewall.told.extend(relying);
    }
    firewall.told.extend(changed.into_iter().filter(|(name, _)| used.contains(name)).map(|(_, left)| left));
    for name in used {
        firewall.told.extend(sets.get(&name).and_then(|set| set.told(&name)));
    }
    for (name, set) in &sets {
        if let Some(prefixes) = set.prefixes() {
            firewall.sets.entry(name.2.clone()).or_insert(prefixes);
        }
    }
    Ok(firewall)
}

/// Whether what becomes of a packet depends on its mark.
fn asks_for_mark(expressions: &[Value]) -> bool {
    let is_mark =
        |value: &Value| value.pointer("/meta/key").or(value.pointer("/ct/key")).is_some_and(|key| key == "mark");
    let asked = expressions.iter().filter_map(|it| it.pointer("/match/left").or(it.pointer("/vmap/key")));
    asked.flat_map(|left| [Some(left), left.pointer("/&/0")]).flatten().any(is_mark)
}

fn text_of(object: &Value, key: &str) -> String {
    object[key].as_str().unwrap_or_default().to_owned()
}

fn name_of(object: &Value, key: &str) -> Name {
    (text_of(object, "family"), text_of(object, "table"), text_of(object, key))
}

/// Some versions of nft write the flag as one letter.
fn is_dormant(table: &Value) -> bool {
    let is = |flag: &Value| flag == "dormant" || flag == "t";
    is(&table["flags"]) || table["flags"].as_array().is_some_and(|flags| flags.iter().any(is))
}

fn place(rule: &Value, (family, table, chain): &Name) -> String {
    match rule["handle"].as_u64() {
        Some(handle) => format!("{family} {table} {chain} handle {handle}"),
        None => format!("{family} {table} {chain}"),
    }
}

fn shown(expressions: &[Value]) -> String {
    const LONG: usize = 400;
    let text = Value::from(expressions.to_vec()).to_string();
    match text.char_indices().nth(LONG) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

/// The chains where packets come in, by priority: lower numbers first. Of equal ones the chain that was made later is
/// asked
/// first, as the kernel puts it in front of the others (`nf_hook_entries_grow`).
fn bases<'a>(firewall: &mut Firewall, all: impl Iterator<Item = &'a Value>, chains: &BTreeMap<Name, ChainId>) {
    let comes_in = |chain: &&Value| {
        chain["hook"] == "prerouting"
            && chain["type"] == "filter"
            && matches!(chain["family"].as_str(), Some("ip" | "ip6" | "inet"))
    };
    let mut bases: Vec<&Value> = all.filter(comes_in).collect();
    bases.reverse();
    bases.sort_by_key(|chain| chain["prio"].as_i64().unwrap_or(0));
    for chain in bases {
        let name = name_of(chain, "name");
        let Some(number) = chains.get(&name) else { continue };
        let family = match name.0.as_str() {
            "ip" => Some(Family::V4),
            "ip6" => Some(Family::V6),
            _ => None,
        };
        let drops = (chain["policy"] == "drop").then(|| {
            let place = format!("{} {} {}", name.0, name.1, name.2);
            let steps = vec![Step::Do(Action::Drop)];
            firewall.rules.push(Rule { place, text: "policy drop".to_owned(), comment: None, steps });
            firewall.rules.len() - 1
        });
        firewall.bases.push(Base { chain: *number, family, drops });
    }
}
