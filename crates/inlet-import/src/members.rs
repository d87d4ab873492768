//! Reads values as nft writes them: one, a range, or the members of a set.

use std::net::IpAddr;

use ipnet::IpSubnets;
use serde_json::Value;

use super::ipset;
use inlet_core::{PortRange, Prefix};

/// The members of an anonymous set, or the one value.
pub(super) fn values(value: &Value) -> Vec<&Value> {
    match value.get("set").unwrap_or(value) {
        Value::Array(all) => all.iter().collect(),
        one => vec![one],
    }
}

pub(super) fn addresses_of(members: &[Value]) -> Option<Vec<Prefix>> {
    let mut all = Vec::new();
    for member in members {
        let member = member.get("elem").map_or(member, |element| element.get("val").unwrap_or(element));
        if let Some(text) = member.as_str() {
            all.push(ipset::prefix(text)?);
        } else if let Some(prefix) = member.get("prefix") {
            all.push(ipset::prefix(&format!("{}/{}", prefix["addr"].as_str()?, prefix["len"]))?);
        } else {
            all.extend(range(member.get("range")?)?);
        }
    }
    Some(all)
}

/// The prefixes that form a range of addresses.
fn range(ends: &Value) -> Option<Vec<Prefix>> {
    let end = |at: usize| ends.get(at)?.as_str()?.parse::<IpAddr>().ok();
    let subnets = match (end(0)?, end(1)?) {
        (IpAddr::V4(first), IpAddr::V4(last)) => IpSubnets::from(ipnet::Ipv4Subnets::new(first, last, 0)),
        (IpAddr::V6(first), IpAddr::V6(last)) => IpSubnets::from(ipnet::Ipv6Subnets::new(first, last, 0)),
        _ => return None,
    };
    subnets.map(|net| Prefix::new(net).ok()).collect()
}

pub(super) fn port(value: &Value) -> Option<PortRange> {
    let number = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
    let value = value.get("elem").map_or(value, |element| element.get("val").unwrap_or(element));
    match value.get("range") {
        Some(ends) => PortRange::new(number(ends.get(0)?)?.max(1), number(ends.get(1)?)?).ok(),
        None => number(value).and_then(|port| PortRange::new(port, port).ok()),
    }
}
