//! The targets of iptables rules.

use super::matches::number;
use super::rule::Reader;
use crate::firewall::{Action, Choice};

/// Targets that change nothing about who gets a packet.
const HARMLESS: [&str; 21] = [
    "LOG",
    "NFLOG",
    "ULOG",
    "TRACE",
    "AUDIT",
    "CLASSIFY",
    "DSCP",
    "TOS",
    "TTL",
    "HL",
    "ECN",
    "TCPMSS",
    "TCPOPTSTRIP",
    "CHECKSUM",
    "TEE",
    "IDLETIMER",
    "RATEEST",
    "LED",
    "SECMARK",
    "CONNSECMARK",
    "ACCOUNT",
];

impl Reader<'_> {
    /// What the target does. Its options are the rest of the words.
    pub(super) fn target(&mut self) -> Vec<Action> {
        let name = self.next();
        if let Some(chain) = self.chains.get(name) {
            return vec![Action::Jump(*chain)];
        }
        match name {
            "TPROXY" => self.tproxy(),
            "ACCEPT" => vec![Action::Accept],
            "RETURN" => vec![Action::Return],
            "DROP" => vec![Action::Drop],
            "REJECT" => {
                self.options();
                vec![Action::Reject]
            }
            "MARK" => self.mark_target(false),
            "CONNMARK" => self.mark_target(true),
            "CT" | "NOTRACK" => {
                let options = self.options();
                let untracks = name == "NOTRACK" || options.iter().any(|(option, _)| option == "--notrack");
                vec![if untracks { Action::NoTrack } else { Action::Nothing }]
            }
            "SET" => {
                let names = |option: &str| matches!(option, "--add-set" | "--del-set" | "--map-set");
                let named = self.options().into_iter().filter(|(option, _)| names(option));
                let sets: Vec<String> = named.map(|(_, name)| name).collect();
                self.changed.extend(sets);
                vec![Action::Nothing]
            }
            harmless if HARMLESS.contains(&harmless) => {
                self.options();
                vec![Action::Nothing]
            }
            other => {
                self.options();
                vec![Action::Anything(format!("what the target {other} does with packets is not known here"))]
            }
        }
    }

    /// The options of the target with their values, to the end of the rule.
    fn options(&mut self) -> Vec<(String, String)> {
        let mut options: Vec<(String, String)> = Vec::new();
        for word in self.words.by_ref() {
            match options.last_mut() {
                Some((_, value)) if !word.starts_with("--") && value.is_empty() => word.clone_into(value),
                _ => options.push((word.clone(), String::new())),
            }
        }
        options
    }

    fn tproxy(&mut self) -> Vec<Action> {
        let (mut addr, mut port, mut actions) = (None, None, Vec::new());
        for (option, value) in self.options() {
            match option.as_str() {
                "--on-ip" => match value.parse() {
                    Ok(given) => addr = Some(given),
                    Err(_) => return vec![Action::Anything(format!("{value} is no address"))],
                },
                "--on-port" => match value.parse::<u16>() {
                    Ok(given) => port = Some(given).filter(|port| *port > 0),
                    Err(_) => return vec![Action::Anything(format!("{value} is no port"))],
                },
                "--tproxy-mark" => actions.extend(xmark(&value, false)),
                _ => {}
            }
        }
        actions.push(Action::Tproxy { choices: vec![Choice { test: None, family: None, addr, port }], ends: true });
        actions
    }

    fn mark_target(&mut self, conn: bool) -> Vec<Action> {
        let options = self.options();
        let has = |wanted: &str| options.iter().any(|(option, _)| option == wanted);
        let all = |value: &str| number(value) == Some(u32::MAX);
        let whole = options.iter().filter(|(option, _)| option.ends_with("mask")).all(|(_, value)| all(value));
        let cannot = || vec![Action::Anything("marks are copied in part, which the import does not follow".to_owned())];
        match (has("--save-mark"), has("--restore-mark")) {
            (true, _) if whole => return vec![Action::CopyMark { to_conn: true }],
            (_, true) if whole => return vec![Action::CopyMark { to_conn: false }],
            (true, _) | (_, true) => return cannot(),
            _ => {}
        }
        let change = options.iter().find_map(|(option, value)| {
            let (keep, flip) = match option.as_str() {
                "--set-xmark" => mark_and_mask(value).map(|(value, mask)| (!mask, value))?,
                "--set-mark" => mark_and_mask(value).map(|(value, mask)| (!(value | mask), value))?,
                "--and-mark" => (number(value)?, 0),
                "--or-mark" => (!number(value)?, number(value)?),
                "--xor-mark" => (u32::MAX, number(value)?),
                _ => return None,
            };
            Some(Action::Mark { conn, keep, flip })
        });
        change.map_or_else(cannot, |change| vec![change])
    }
}

/// `VALUE/MASK`, where all bits are meant without a mask.
fn mark_and_mask(text: &str) -> Option<(u32, u32)> {
    let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
    Some((number(value)?, number(mask)?))
}

fn xmark(text: &str, conn: bool) -> Option<Action> {
    mark_and_mask(text).map(|(value, mask)| Action::Mark { conn, keep: !mask, flip: value })
}
