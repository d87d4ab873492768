//! Says which rule decides about a TCP packet and which socket receives it.
//!
//! ```text
//! cargo run --example explain -- 192.0.2.7:80 203.0.113.9:40000
//! ```
#![allow(clippy::print_stdout, reason = "an example is a program")]

use std::error::Error;
use std::net::SocketAddr;

use inlet::rules::{Packet, Protocol};
use inlet::{Location, Outcome, Snapshot};

fn main() -> Result<(), Box<dyn Error>> {
    let addrs: Vec<SocketAddr> = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let [local, remote] = addrs[..] else { return Err("usage: explain LOCAL:PORT REMOTE:PORT".into()) };
    println!("{}", explain(Location::default_for_this_process()?, local, remote)?);
    Ok(())
}

pub(crate) fn explain(location: Location, local: SocketAddr, remote: SocketAddr) -> inlet::Result<String> {
    let snapshot = Snapshot::open(location)?;
    let explanation = snapshot.explain(&Packet::new(Protocol::Tcp, local, remote))?;
    let rule = match &explanation.rule {
        Some(rule) => format!("rule {}", snapshot.ruleset().named(rule)),
        None => "no rule".to_owned(),
    };
    let end = match (explanation.outcome, explanation.socket.and_then(|socket| socket.local)) {
        (Outcome::Socket, Some(endpoint)) => format!("socket {endpoint}"),
        (Outcome::Socket, None) => format!("one of {} sockets", explanation.sockets.len()),
        (Outcome::Pass, _) => "left to the kernel's ordinary lookup".to_owned(),
        (Outcome::Refuse, _) => "refused".to_owned(),
    };
    Ok(format!("{rule}: {end}"))
}
