//! A server over UDP that is written for rules: it knows where each datagram was sent, and answers from there, also when
//! one client asks several addresses at once.
//!
//! ```text
//! inlet up
//! inlet bind echo udp 192.0.2.0/24 7
//! ip route add local 192.0.2.0/24 dev lo
//! cargo run --example echo -- echo &
//! echo hello | socat - udp:192.0.2.7:7
//! ```
#![allow(clippy::print_stderr, reason = "an example is a program")]

use std::error::Error;
use std::net::UdpSocket;

use inlet::{AskedSocket, Instance, Location, Received};

fn main() -> Result<(), Box<dyn Error>> {
    let service = std::env::args().nth(1).ok_or("usage: echo SERVICE")?;
    let socket = open(Location::default_for_this_process()?, &service)?;
    loop {
        answer(&socket)?;
    }
}

/// A socket of both families at any port, which the service has from now on, until it is closed.
pub(crate) fn open(location: Location, service: &str) -> Result<AskedSocket, Box<dyn Error>> {
    let socket = AskedSocket::new(UdpSocket::bind("[::]:0")?)?;
    // Nobody else reads or writes an instance while it is open, so it is closed at once.
    Instance::open(location)?.register(service, &socket)?;
    Ok(socket)
}

/// Answers one datagram with where it was sent and what it says.
pub(crate) fn answer(socket: &AskedSocket) -> std::io::Result<()> {
    let mut buffer = [0; 2048];
    // What is too long is not echoed.
    let Received { data, cut: 0, question } = socket.receive(&mut buffer)? else { return Ok(()) };
    let text = format!("{}: {}", question.asked(), data.escape_ascii());
    // That one client cannot be reached is no reason to end.
    if let Err(error) = socket.answer(text.as_bytes(), &question) {
        eprintln!("no answer to {}: {error}", question.remote());
    }
    Ok(())
}
