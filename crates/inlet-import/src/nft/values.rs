//! Values of nftables: numbers, names, addresses, alone or as ranges.

use std::net::IpAddr;

use serde_json::Value;

use crate::firewall::{Range, bits, is_interface};

/// A value, or all values between two.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    One(Value),
    Between(Value, Value),
    Prefix(IpAddr, u32),
    /// Fields that belong together.
    Concat(Vec<Piece>),
    /// Whatever there is, which stands for elements that are not there.
    All,
    Wrong,
}

impl Piece {
    pub(super) fn of(value: &Value) -> Self {
        if let Some(element) = value.get("elem") {
            return Self::of(&element["val"]);
        }
        if let Some(range) = value.get("range").and_then(Value::as_array) {
            return match range.as_slice() {
                [first, last] => Self::Between(first.clone(), last.clone()),
                _ => Self::Wrong,
            };
        }
        if let Some(prefix) = value.get("prefix") {
            let addr = prefix["addr"].as_str().and_then(|addr| addr.parse().ok());
            let len = prefix["len"].as_u64().and_then(|len| u32::try_from(len).ok());
            return addr.zip(len).map_or(Self::Wrong, |(addr, len)| Self::Prefix(addr, len));
        }
        if let Some(parts) = value.get("concat").and_then(Value::as_array) {
            return Self::Concat(parts.iter().map(Self::of).collect());
        }
        match value {
            Value::String(text) if text == "*" => Self::All,
            Value::String(_) | Value::Number(_) => Self::One(value.clone()),
            _ => Self::Wrong,
        }
    }
}

/// A range of addresses.
pub(super) fn address(piece: &Piece) -> Option<Range> {
    let one = |value: &Value| value.as_str()?.parse::<IpAddr>().ok();
    match piece {
        Piece::One(value) => Range::read(value.as_str()?),
        Piece::Prefix(addr, len) => Range::prefix(*addr, *len),
        Piece::Between(first, last) => {
            let (first, last) = (one(first)?, one(last)?);
            let range = Range { family: first.into(), first: bits(first), last: bits(last) };
            (first.is_ipv4() == last.is_ipv4() && range.first <= range.last).then_some(range)
        }
        _ => None,
    }
}

/// A range of numbers, each at most `max`.
pub(super) fn numbers(piece: &Piece, max: u64) -> Option<(u64, u64)> {
    let one = |value: &Value| match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => text.parse().ok().or_else(|| service(text)),
        },
        _ => None,
    };
    let (first, last) = match piece {
        Piece::One(value) => (one(value)?, one(value)?),
        Piece::Between(first, last) => (one(first)?, one(last)?),
        _ => return None,
    };
    (first <= last && last <= max).then_some((first, last))
}

/// Names of ports that nft writes when it is asked for names.
fn service(name: &str) -> Option<u64> {
    const NAMES: [(&str, u64); 14] = [
        ("ftp", 21),
        ("ssh", 22),
        ("telnet", 23),
        ("smtp", 25),
        ("domain", 53),
        ("http", 80),
        ("pop3", 110),
        ("ntp", 123),
        ("imap2", 143),
        ("snmp", 161),
        ("https", 443),
        ("submission", 587),
        ("imaps", 993),
        ("http-alt", 8080),
    ];
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, port)| *port)
}

/// The name of an interface, or the beginning of names.
pub(super) fn interface(piece: &Piece) -> Option<String> {
    word(piece).filter(|name| is_interface(name))
}

/// A word or a number.
pub(super) fn word(piece: &Piece) -> Option<String> {
    match piece {
        Piece::One(Value::String(text)) => Some(text.clone()),
        Piece::One(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    }
}
