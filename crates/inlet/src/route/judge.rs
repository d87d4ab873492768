//! What becomes of one packet: the model and, where it can be asked, the kernel; and whether the answer can leave.

use std::net::{IpAddr, Ipv4Addr};

use inlet_core::{Family, Packet, Protocol};

use super::entry::{LOCAL_TABLE, Reach, Route};
use super::model::{Decision, Model, Unless};
use super::policy::Arriving;
use super::table::{RouteTable, Said};
use crate::error::Result;

/// The loopback interface has this index in every namespace (`LOOPBACK_IFINDEX`). What comes in by it was sent by the host.
const LOOPBACK: u32 = 1;

/// Why the kernel takes no packet from a source on an interface where the address is local.
const SOURCE: &str = "the check of its source: by rp_filter, or because no other host can have it";

/// What the routes do with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// What becomes of it.
    pub reach: Reach,
    /// The policy routing rules of the namespace beside the usual ones, as ip-rule(8) writes them.
    pub policies: Vec<String>,
    /// Whether the kernel was asked about just this source and interface.
    pub asked: bool,
    /// What would decide otherwise for packets that have what is not known of this one: a mark, a type of service, an interface.
    pub unless: Vec<Unless>,
    /// What Inlet makes of rules and routes, where the kernel says something else. What counts is the kernel's word.
    pub model: Option<Reach>,
    /// Why an ordinary socket could not answer.
    pub mute: Option<Mute>,
    /// What rules and routes have that Inlet does not know, and leaves out of account.
    pub unknown: Vec<String>,
}

/// Why an ordinary socket cannot answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mute {
    /// The kernel sends nothing from the address: for IPv4 it has to be local by the table `local`, to packets of any kind.
    Source,
    /// No route leads back to the client.
    NoWayBack,
}

impl RouteTable {
    /// The model of all rules and routes.
    pub(crate) fn model(&self) -> Result<Model> {
        let mut model = Model::new(self.list()?, self.policies(Family::V4)?, self.policies(Family::V6)?);
        if model.policies(Family::V4).is_empty() {
            self.merge_if_so(&mut model)?;
        }
        Ok(model)
    }

    /// Whether the kernel has the local and the main table of IPv4 in one does not show but in its answers: the first address
    /// that tells is asked about.
    fn merge_if_so(&self, model: &mut Model) -> Result<()> {
        for addr in model.v4.telling() {
            let parted = model.decide(&Arriving::to(addr)).reach;
            model.v4.merge();
            let merged = model.decide(&Arriving::to(addr)).reach;
            if same(&parted, &merged) {
                model.v4.part();
                continue;
            }
            if !agrees(&merged, &self.reach(addr, None)?) {
                model.v4.part();
            }
            return Ok(());
        }
        Ok(())
    }

    /// What becomes of a packet that comes in.
    pub(crate) fn judge(&self, model: &Model, packet: &Packet) -> Result<Routing> {
        let (addr, source) = (packet.local.ip(), Some(packet.remote.ip()).filter(|source| !source.is_unspecified()));
        let family = if addr.is_ipv6() { Family::V6 } else { Family::V4 };
        let policies = model.policies(family);
        let interface = Some(packet.ifindex).filter(|index| *index != 0 && !policies.is_empty());
        let arriving = Arriving {
            addr,
            source,
            interface: interface.map(|index| self.incoming(index)).transpose()?,
            transport: Some((packet.protocol, packet.remote.port(), packet.local.port())),
        };
        let Decision { reach, unless } = model.decide(&arriving);
        let (said, asked) = self.said(packet, source, policies.is_empty())?;
        let (reach, model_says) = match said {
            Some(said) => settle(reach, said, asked),
            None => (reach, None),
        };
        // Of an anycast address the kernel delivers datagrams.
        let reach = match reach {
            Reach::Anycast(route) if packet.protocol == Protocol::Udp => Reach::Local(route),
            other => other,
        };
        let mute = if reach.is_local() { self.mute(addr, source)? } else { None };
        Ok(Routing { reach, policies, asked, unless, model: model_says, mute, unknown: model.unknown(family) })
    }

    /// What the kernel says, and whether it was asked about this source and interface. It cannot be asked about one of them, and
    /// what it says of packets that the host sends is the same only without policy routing.
    fn said(&self, packet: &Packet, source: Option<IpAddr>, is_plain: bool) -> Result<(Option<Said>, bool)> {
        let addr = packet.local.ip();
        if addr.is_multicast() {
            return Ok((None, false));
        }
        Ok(match (source, packet.ifindex) {
            (Some(_), index) if index > LOOPBACK => (Some(self.reach_of(packet)?), true),
            _ if is_plain => (Some(self.reach(addr, None)?), false),
            _ => (None, false),
        })
    }

    /// Why an ordinary socket could not answer from an address that is local.
    pub(crate) fn mute(&self, addr: IpAddr, source: Option<IpAddr>) -> Result<Option<Mute>> {
        // The host itself is reached by any address that it may send from.
        let own = IpAddr::V4(Ipv4Addr::LOCALHOST);
        if addr.is_ipv4() && matches!(self.reach(own, Some(addr))?, Said::Error(_)) {
            return Ok(Some(Mute::Source));
        }
        let back = source.map(|source| self.reach(source, Some(addr))).transpose()?;
        Ok(match back {
            Some(Said::Error(_) | Said::Reach(Reach::Nowhere | Reach::Dropped(_))) => Some(Mute::NoWayBack),
            _ => None,
        })
    }

    /// Whether a route that makes addresses local lets ordinary sockets answer from them; `addr` is one of them.
    pub(crate) fn lets_answer(&self, route: &Route, addr: IpAddr) -> Result<bool> {
        let is_plain = route.prefix.is_v6() || route.table == LOCAL_TABLE && route.tos == 0;
        Ok(is_plain || self.mute(addr, None)?.is_none())
    }
}

/// Whether two answers are one.
fn same(one: &Reach, other: &Reach) -> bool {
    let prefix = |reach: &Reach| reach.route().map(|route| (route.kind, route.prefix));
    std::mem::discriminant(one) == std::mem::discriminant(other) && prefix(one) == prefix(other)
}

/// Whether the kernel says what the model does.
fn agrees(model: &Reach, said: &Said) -> bool {
    match said {
        Said::Reach(said) => same(model, said),
        Said::Error(_) => matches!(model, Reach::Dropped(_) | Reach::Nowhere),
    }
}

/// The word of the kernel, with what the model knows better: the table, and the route that drops; and the word of the model
/// where that is another.
fn settle(model: Reach, said: Said, asked: bool) -> (Reach, Option<Reach>) {
    match said {
        said if agrees(&model, &said) => (model, None),
        Said::Reach(reach) => (reach, Some(model)),
        // The way that a packet takes which is not for this host is not asked: it may be that nothing is forwarded.
        Said::Error(_) if !model.is_local() => (model, None),
        // What the model leaves to the kernel: whether this source may come in by this interface.
        Said::Error(libc::EINVAL | libc::EXDEV) if asked => (Reach::Dropped(SOURCE.to_owned()), None),
        Said::Error(number) => {
            let cause = std::io::Error::from_raw_os_error(number);
            (Reach::Dropped(format!("the kernel ({cause})")), Some(model))
        }
    }
}
