//! The fields of packets that nftables compares.

use inlet_core::{Family, Protocol};
use serde_json::Value;

use super::values::{Piece, address, interface, numbers, word};
use crate::firewall::{Addresses, Member, SocketTest, Test, joined};

/// A field, as far as the import follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Local(Family),
    Source(Family),
    Ports(Option<Protocol>),
    /// The protocol, which the header of a family has, or any.
    Protocol(Option<Family>),
    Family,
    Iface,
    Mark {
        conn: bool,
        mask: u32,
    },
    State,
    TcpFlags,
    LocalType,
    Transparent,
    Wildcard,
    /// Every packet has this value.
    Fixed(&'static str),
    Unknown(String),
}

impl Field {
    pub(super) fn of(value: &Value) -> Self {
        let unknown = || Self::Unknown(format!("a ruleset has no condition {value}"));
        let Some((kind, inside)) = value.as_object().and_then(|object| object.iter().next()) else { return unknown() };
        let text = |key: &str| inside[key].as_str().unwrap_or_default();
        match (kind.as_str(), text("protocol"), text("field"), text("key")) {
            ("payload", "ip", "daddr", _) => Self::Local(Family::V4),
            ("payload", "ip6", "daddr", _) => Self::Local(Family::V6),
            ("payload", "ip", "saddr", _) => Self::Source(Family::V4),
            ("payload", "ip6", "saddr", _) => Self::Source(Family::V6),
            ("payload", "ip", "protocol", _) => Self::Protocol(Some(Family::V4)),
            ("payload", "ip6", "nexthdr", _) => Self::Protocol(Some(Family::V6)),
            ("payload", "tcp", "dport", _) => Self::Ports(Some(Protocol::Tcp)),
            ("payload", "udp", "dport", _) => Self::Ports(Some(Protocol::Udp)),
            ("payload", "th", "dport", _) => Self::Ports(None),
            ("payload", "tcp", "flags", _) => Self::TcpFlags,
            ("meta", _, _, "l4proto") => Self::Protocol(None),
            ("meta", _, _, "nfproto" | "protocol") => Self::Family,
            ("meta", _, _, "iifname" | "iif") => Self::Iface,
            ("meta", _, _, "mark") => Self::Mark { conn: false, mask: u32::MAX },
            ("meta", _, _, "pkttype") => Self::Fixed("host"),
            ("ct", _, _, "mark") => Self::Mark { conn: true, mask: u32::MAX },
            ("ct", _, _, "state") => Self::State,
            ("ct", _, _, "direction") => Self::Fixed("original"),
            ("socket", _, _, "transparent") => Self::Transparent,
            ("socket", _, _, "wildcard") => Self::Wildcard,
            ("fib", ..) if inside["result"] == "type" && inside["flags"] == serde_json::json!(["daddr"]) => {
                Self::LocalType
            }
            ("&", ..) => masked(inside).unwrap_or_else(unknown),
            _ => unknown(),
        }
    }

    /// What a packet must be to have the field at all.
    pub(super) fn implied(&self) -> Option<Test> {
        match self {
            Self::Local(family) | Self::Source(family) | Self::Protocol(Some(family)) => Some(Test::Family(*family)),
            Self::Ports(Some(protocol)) => Some(Test::Protocols(vec![*protocol])),
            Self::TcpFlags => Some(Test::Protocols(vec![Protocol::Tcp])),
            _ => None,
        }
    }

    /// Whether the field has one of these values.
    pub(super) fn test(&self, pieces: &[Piece]) -> Test {
        if pieces.iter().any(|piece| matches!(piece, Piece::All)) {
            return Test::Always(true);
        }
        self.of_pieces(pieces).unwrap_or_else(|| Test::Unknown(format!("the import does not understand {pieces:?}")))
    }

    fn of_pieces(&self, pieces: &[Piece]) -> Option<Test> {
        let words = || pieces.iter().map(word).collect::<Option<Vec<String>>>();
        Some(match self {
            Self::Local(_) => Test::Local(Addresses::new(pieces.iter().map(address).collect::<Option<Vec<_>>>()?)),
            Self::Source(_) => Test::Source(Addresses::new(pieces.iter().map(address).collect::<Option<Vec<_>>>()?)),
            Self::Ports(_) => {
                let ports = pieces.iter().map(|piece| numbers(piece, u16::MAX.into()));
                let ports = ports.map(|ports| ports.map(|(first, last)| (first.into(), last.into())));
                Test::Ports(joined(ports.collect::<Option<Vec<_>>>()?))
            }
            Self::Protocol(_) => Test::Protocols(words()?.iter().filter_map(|word| protocol(word)).collect()),
            Self::Family => match families(&words()?).as_slice() {
                [] => Test::Always(false),
                [one] => Test::Family(*one),
                _ => Test::Always(true),
            },
            Self::Iface => Test::Ifaces(pieces.iter().map(interface).collect::<Option<_>>()?),
            Self::Mark { conn, mask } => {
                let one = |piece| numbers(piece, u32::MAX.into()).map(|(first, last)| (first as u32, last as u32));
                Test::Mark { conn: *conn, mask: *mask, values: pieces.iter().map(one).collect::<Option<_>>()? }
            }
            Self::State => {
                let words = words()?;
                let has = |state: &str| words.iter().any(|word| word == state);
                Test::State { tracked: has("new"), untracked: has("untracked") }
            }
            Self::TcpFlags => Test::Always(words()?.iter().any(|word| word == "syn")),
            Self::LocalType => {
                let words = words()?;
                let has = |kind: &str| words.iter().any(|word| word == kind);
                match (has("local"), has("unicast")) {
                    (local, unicast) if local != unicast => Test::LocalType(local),
                    (both, _) => Test::Always(both),
                }
            }
            Self::Transparent | Self::Wildcard => {
                let value = match pieces {
                    [piece] => numbers(piece, 1)?.0 == 1,
                    _ => return None,
                };
                let (transparent, wildcard) =
                    if *self == Self::Wildcard { (None, Some(value)) } else { (Some(value), None) };
                Test::Socket(SocketTest { transparent, wildcard, found: None })
            }
            Self::Fixed(value) => {
                Test::Always(words()?.iter().any(|word| word == value || (*value == "host" && word == "unicast")))
            }
            Self::Unknown(why) => Test::Unknown(why.clone()),
        })
    }

    /// Puts a part of a concatenation into the members: one for each protocol or family that it names.
    pub(super) fn narrow(&self, member: &mut Member, piece: &Piece) -> Option<bool> {
        match (self, piece) {
            (Self::Local(family), Piece::All) | (Self::Source(family), Piece::All) => member.family = Some(*family),
            (_, Piece::All) => {}
            (Self::Local(_), piece) => {
                let range = address(piece)?;
                (member.family, member.local) = (Some(range.family), Some((range.first, range.last)));
            }
            (Self::Source(_), piece) => {
                let range = address(piece)?;
                (member.family, member.source) = (Some(range.family), Some((range.first, range.last)));
            }
            (Self::Ports(_), piece) => {
                let (first, last) = numbers(piece, u16::MAX.into())?;
                member.ports = Some((first as u16, last as u16));
            }
            (Self::Protocol(_), piece) => match (protocol(&word(piece)?), member.protocol) {
                (Some(protocol), None) => member.protocol = Some(protocol),
                (Some(protocol), Some(other)) if protocol == other => {}
                _ => return Some(false),
            },
            (Self::Family, piece) => match families(&[word(piece)?]).as_slice() {
                [family] => member.family = Some(*family),
                _ => return Some(false),
            },
            (Self::Iface, piece) => member.iface = Some(interface(piece)?),
            _ => return None,
        }
        Some(true)
    }
}

/// A field of which some bits are compared.
fn masked(inside: &Value) -> Option<Field> {
    let [field, mask] = inside.as_array()?.as_slice() else { return None };
    match Field::of(field) {
        Field::Mark { conn, .. } => {
            let mask = numbers(&Piece::of(mask), u32::MAX.into())?.0 as u32;
            Some(Field::Mark { conn, mask })
        }
        // Without the bit of SYN the comparison is about other flags, which packets that open connections do not have.
        Field::TcpFlags => {
            let flags = mask.as_array().cloned().unwrap_or_else(|| vec![mask.clone()]);
            flags.iter().any(|flag| flag == "syn").then_some(Field::TcpFlags)
        }
        _ => None,
    }
}

fn protocol(word: &str) -> Option<Protocol> {
    match word {
        "tcp" | "6" => Some(Protocol::Tcp),
        "udp" | "17" => Some(Protocol::Udp),
        _ => None,
    }
}

fn families(words: &[String]) -> Vec<Family> {
    let has = |names: [&str; 4]| words.iter().any(|word| names.contains(&word.as_str()));
    let mut families = Vec::new();
    families.extend(has(["ipv4", "ip", "2", "0x0800"]).then_some(Family::V4));
    families.extend(has(["ipv6", "ip6", "10", "0x86dd"]).then_some(Family::V6));
    families
}
