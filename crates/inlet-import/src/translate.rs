//! From the text of a firewall to a ruleset file.

use std::collections::{BTreeMap, BTreeSet};

use inlet_core::{Family, Mark, Prefix};

use crate::encode::{Choice, Row, prefixes, rows};
use crate::evaluate::{Area, TOO_MUCH, tables};
use crate::firewall::{Action, Addresses, Firewall, Member, Range, Rule, RuleId, SocketTest, Step, Test, bits};
use crate::services::Services;
use crate::{ImportError, Imported, Left, Listener, RuleText, Surroundings, VerdictText, iptables, nft};

/// Translates the TPROXY rules of what `iptables-save` and `ip6tables-save` or `nft -j list ruleset` wrote.
///
/// # Errors
/// [`ImportError`] when there is nothing to be translated.
pub fn tproxy(text: &str, around: &Surroundings) -> Result<Imported, ImportError> {
    let text = text.trim_start_matches('\u{feff}');
    let mut firewall = match text.trim_start().starts_with('{') {
        true => nft::read(text)?,
        false => iptables::read(text, &around.sets)?,
    };
    if !firewall.has_tproxy() && firewall.told.is_empty() {
        return Err(ImportError::Nothing);
    }
    if let Some(listeners) = &around.listeners {
        know_listeners(&mut firewall, listeners);
    }
    firewall.interfaces.clone_from(&around.interfaces);
    let (tables, area) = tables(&firewall);
    let (certain, hoped) = rows(&tables, &area.elsewhere);
    let mut imported = Imported { left: std::mem::take(&mut firewall.told), ..Imported::default() };
    imported.left.extend(left(&firewall, &area, &certain));
    // In the order of the text, where it has lines.
    let line = |left: &Left| left.place.strip_prefix("line ").and_then(|line| line.parse::<usize>().ok());
    imported.left.sort_by_key(|left| line(left).unwrap_or(0));
    Texts::new(&firewall, &area, around.listeners.as_deref(), [&certain, &hoped]).write(
        &certain,
        &hoped,
        &mut imported,
    );
    Ok(imported)
}

/// The tests about sockets become tests for the listeners that are there.
fn know_listeners(firewall: &mut Firewall, listeners: &[Listener]) {
    for number in 0..firewall.tests.len() {
        let Test::Socket(test) = firewall.tests[number] else { continue };
        let members = listeners.iter().filter_map(|listener| member(listener, test)).collect();
        let found = firewall.test(Test::Tuple(members));
        firewall.tests[number] = Test::Socket(SocketTest { found: Some(found), ..test });
    }
}

/// The packets that a listener gets, of which one that is bound to one address gets them first.
fn member(listener: &Listener, test: SocketTest) -> Option<Member> {
    let wildcard = listener.addr.is_unspecified();
    let transparent = match (test.transparent, listener.transparent) {
        (None, _) => Some(true),
        (Some(wanted), Some(is)) => Some(wanted == is),
        // Nearly no socket is, but for those of proxies.
        (Some(true), None) => Some(false),
        (Some(false), None) => None,
    };
    let counts = match test.wildcard.is_none_or(|wanted| wanted == wildcard) {
        true => transparent,
        false => Some(false),
    };
    let family = match wildcard && listener.addr.is_ipv6() && !listener.v6only {
        true => None,
        false => Some(Family::from(listener.addr)),
    };
    let port = Some(listener.port).filter(|port| *port > 0)?;
    Some(Member {
        family,
        protocol: Some(listener.protocol),
        local: (!wildcard).then(|| (bits(listener.addr), bits(listener.addr))),
        ports: Some((port, port)),
        rank: if wildcard { 0 } else { 1 } * 2 + u16::from(family.is_some()),
        counts,
        ..Member::default()
    })
}

/// What is to be told of rules, in their order.
fn left(firewall: &Firewall, area: &Area, certain: &[Row]) -> Vec<Left> {
    let mut found: BTreeMap<RuleId, (Vec<&str>, bool)> = BTreeMap::new();
    let beyond = area.beyond.iter().map(|rule| (*rule, BEYOND));
    for (rule, why) in area.doubts.iter().map(|(rule, why)| (*rule, why.as_str())).chain(beyond) {
        let (whys, todo) = found.entry(rule).or_default();
        whys.push(why);
        *todo = true;
    }
    let refused: BTreeSet<RuleId> =
        certain.iter().filter(|row| row.choice == Choice::Refuse).flat_map(|row| row.lines.clone()).collect();
    for rule in refused {
        let drops = firewall.rules[rule].steps.iter().any(|step| match step {
            Step::Do(Action::Drop) => true,
            Step::Do(Action::Dispatch(list)) => list.iter().any(|(_, action)| *action == Action::Drop),
            _ => false,
        });
        if drops {
            found.entry(rule).or_default().0.push(SILENCE);
        }
    }
    for rule in marking(firewall, area, certain) {
        found.entry(rule).or_default().0.push(KEEP);
    }
    let of = |(rule, (whys, todo)): (RuleId, (Vec<&str>, bool))| firewall.rules[rule].left(whys.join("; "), todo);
    let mut left: Vec<Left> = found.into_iter().map(of).collect();
    left.extend(wildcards(firewall));
    if area.spent {
        let (place, text) = ("all rules".to_owned(), String::new());
        left.insert(0, Left { place, text, why: TOO_MUCH.to_owned(), todo: true });
    }
    left
}

/// The rules that name interfaces by the beginning of their names, where it is known which ones are there.
fn wildcards(firewall: &Firewall) -> Vec<Left> {
    let Some(interfaces) = &firewall.interfaces else { return Vec::new() };
    let told = |rule: &crate::firewall::Rule| {
        let starts = rule.steps.iter().find_map(|step| match step {
            Step::Match { test, .. } => match &firewall.tests[*test] {
                Test::Ifaces(names) => names.iter().find_map(|name| name.strip_suffix('*').filter(|it| !it.is_empty())),
                _ => None,
            },
            Step::Do(_) => None,
        })?;
        let there: Vec<&str> = interfaces.iter().map(String::as_str).filter(|name| name.starts_with(starts)).collect();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        Some(rule.left(
            format!("{starts}* stands for the interfaces that are there now ({there}); import again when others come"),
            false,
        ))
    };
    firewall.rules.iter().filter_map(told).collect()
}

/// The rules that give packets a mark which some row asks for.
fn marking(firewall: &Firewall, area: &Area, rows: &[Row]) -> Vec<RuleId> {
    let asked: BTreeSet<Mark> = rows.iter().filter_map(|row| area.marks.get(row.iface % area.marks.count())).collect();
    let gives = |step: &Step| match step {
        Step::Do(Action::Mark { conn: false, flip, .. }) => asked.iter().any(|mark| mark.matches(*flip)),
        _ => false,
    };
    let steers = |step: &Step| matches!(step, Step::Do(Action::Tproxy { .. }));
    let marks = |rule: &Rule| rule.steps.iter().any(gives) && !rule.steps.iter().any(steers);
    (0..firewall.rules.len()).filter(|rule| marks(&firewall.rules[*rule])).collect()
}

const KEEP: &str = "keep this rule: the ruleset asks for the mark that it gives";
const BEYOND: &str = "it takes packets to addresses that are not the host's, and Inlet gets only those to local ones; make them \
                      local (see inlet docs) and write a rule for them";
const SILENCE: &str =
    "a ruleset refuses, and the sender hears of it; what is to be dropped in silence stays with the firewall";

/// Lists of prefixes that are long enough for a name.
const LONG: usize = 8;

/// Rules in the words of the file.
struct Texts<'a> {
    firewall: &'a Firewall,
    area: &'a Area,
    services: Services,
    /// The names that the firewall has for lists of prefixes.
    known: BTreeMap<Vec<Prefix>, String>,
    /// The sets that are used, by name.
    sets: Vec<(String, Vec<Prefix>)>,
}

impl<'a> Texts<'a> {
    fn new(firewall: &'a Firewall, area: &'a Area, listeners: Option<&[Listener]>, rows: [&[Row]; 2]) -> Self {
        let mut targets: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for row in rows.into_iter().flatten() {
            if let Choice::To(target) = row.choice {
                targets.entry(target).or_default().extend(row.protocols.iter().copied());
            }
        }
        let mut known = BTreeMap::new();
        for (name, members) in &firewall.sets {
            if let Some(family) = members.first().map(|prefix| Family::from(prefix.addr())) {
                let ranges = members.iter().filter_map(|prefix| Range::prefix(prefix.addr(), prefix.len().into()));
                let mut all = prefixes(family, Addresses::new(ranges).of(family));
                all.sort_unstable();
                if members.iter().all(|prefix| Family::from(prefix.addr()) == family) {
                    known.entry(all).or_insert_with(|| name.clone());
                }
            }
        }
        Self { firewall, area, services: Services::new(&targets, listeners), known, sets: Vec::new() }
    }

    fn write(mut self, certain: &[Row], hoped: &[Row], imported: &mut Imported) {
        imported.rules = certain.iter().map(|row| self.rule(row)).collect();
        imported.undecided = hoped.iter().map(|row| self.rule(row)).collect();
        imported.services = self.services.texts;
        imported.sets = self.sets;
    }

    fn rule(&mut self, row: &Row) -> RuleText {
        let verdict = match row.choice {
            Choice::To(target) => VerdictText::To(self.services.name(&target).to_owned()),
            Choice::Pass => VerdictText::Pass,
            Choice::Refuse => VerdictText::Refuse,
        };
        let (iface, mark) =
            (row.iface / self.area.marks.count(), self.area.marks.get(row.iface % self.area.marks.count()));
        RuleText {
            verdict,
            protocols: row.protocols.clone(),
            local: self.prefixes(&row.locals, "local"),
            ports: row.ports.clone(),
            except: row.except.clone(),
            from: self.prefixes(&row.sources, "source"),
            iface: (iface > 0).then(|| self.area.ifaces[iface].clone()),
            mark: mark.map(|mark| mark.to_string()),
            note: self.note(&row.lines),
        }
    }

    /// The prefixes, or the set that has just these.
    fn prefixes(&mut self, prefixes: &[Prefix], side: &str) -> Vec<String> {
        let mut sorted = prefixes.to_vec();
        sorted.sort_unstable();
        let known = self.known.get(&sorted).filter(|_| prefixes.len() > 1);
        let name = match known {
            Some(name) => name.clone(),
            None if prefixes.len() > LONG => {
                let count = self.sets.iter().filter(|(name, _)| name.starts_with(side)).count();
                let name = format!("{side}-{}", count + 1);
                self.known.insert(sorted.clone(), name.clone());
                name
            }
            None => return sorted.iter().map(Prefix::to_string).collect(),
        };
        if !self.sets.iter().any(|(other, _)| *other == name) {
            self.sets.push((name.clone(), sorted));
        }
        vec![format!("@{name}")]
    }

    /// Where a rule comes from.
    fn note(&self, lines: &BTreeSet<RuleId>) -> String {
        let rules: Vec<_> = lines.iter().map(|line| &self.firewall.rules[*line]).collect();
        let mut places: Vec<&str> = rules.iter().map(|rule| rule.place.as_str()).collect();
        places.dedup();
        match (places.as_slice(), rules.as_slice()) {
            ([], _) => "what no rule takes".to_owned(),
            ([place], [rule, ..]) => match &rule.comment {
                Some(comment) => format!("{place}: {comment}"),
                None => (*place).to_owned(),
            },
            (several, _) if several.len() <= 4 => several.join(", "),
            (several, _) => format!("{} and {} more", several[..3].join(", "), several.len() - 3),
        }
    }
}
