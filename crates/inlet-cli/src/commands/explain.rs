//! The command that explains who receives a packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use inlet::rules::config::Parsed;
use inlet::rules::{InterfaceName, Packet, Ruleset};
use inlet::{Error, Explainer, Explanation, KernelError, Location, Snapshot, read_ruleset};

use super::{location, source};
use crate::args::{Cli, Explain};
use crate::failure::{self, Failure};
use crate::render::{self, Question, Screen};

pub(super) fn explain(cli: &Cli, args: &Explain, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let (local, remote) = addresses(args)?;
    let location = location(cli)?;
    let ifindex = args.iface.as_ref().map_or(Ok(0), |name| interface(&location, name))?;
    let mark = args.mark.map_or(0, |mark| mark.0);
    let packet = Packet { protocol: args.protocol, local, remote, ifindex, mark: Some(mark) };
    let (explanation, steering, ruleset) = match &args.file {
        None => {
            let snapshot = Snapshot::open(location)?;
            (snapshot.explain(&packet)?, snapshot.require_steering(), snapshot.into_ruleset())
        }
        Some(file) => {
            let (explanation, ruleset) = under(file, &location, &packet)?;
            (explanation, Ok(()), ruleset)
        }
    };
    let question = Question {
        from: args.from.is_some(),
        iface: args.iface.as_ref(),
        mark: args.mark.map(|mark| mark.0),
        file: args.file.as_deref(),
    };
    render::explanation(screen, &question, &ruleset, &explanation)?;
    // What was shown is what happens without Inlet.
    Ok(steering?)
}

/// The story under a ruleset that is not in force. There may be no instance, and then services have no sockets.
fn under(file: &Path, location: &Location, packet: &Packet) -> Result<(Explanation, Ruleset), Failure> {
    let snapshot = Snapshot::open_if_up(location)?;
    let snapshot = snapshot.as_ref();
    let nothing = Ruleset::empty();
    let old = snapshot.map_or(&nothing, Snapshot::ruleset);
    let Parsed { ruleset, skipped, .. } = read_ruleset(source(file)?, location.netns(), old)?;
    skipped.iter().for_each(|skipped| failure::note(&skipped.to_string(), None));
    let explanation = Explainer::under(&ruleset, location, snapshot)?.explain(packet)?;
    Ok((explanation, ruleset))
}

fn addresses(args: &Explain) -> Result<(SocketAddr, SocketAddr), Failure> {
    let local = args.to.0;
    let remote = args.from.map_or_else(|| unspecified(local), |from| from.0);
    if remote.is_ipv4() != local.is_ipv4() {
        let message = format!("{remote} and {local} are of two families; no packet has both");
        return Err(Failure::Value("--from <SRC:PORT>", message.into()));
    }
    if local.port() == 0 {
        return Err(Failure::Value("<DST:PORT>", "no packet goes to port 0; ports go from 1 to 65535".into()));
    }
    Ok((local, remote))
}

fn interface(location: &Location, name: &InterfaceName) -> Result<u32, Error> {
    let netns = location.netns();
    let unknown =
        || Error::Kernel(KernelError::UnknownInterface { name: name.to_string(), netns: netns.label().to_owned() });
    netns.interface_index(name)?.ok_or_else(unknown)
}

/// Where a packet comes from when nobody says: the unspecified address, which no source prefix but /0 holds.
fn unspecified(local: SocketAddr) -> SocketAddr {
    let addr: IpAddr = if local.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(addr, 0)
}
