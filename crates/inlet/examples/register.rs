//! A server that registers its own listener: rules then give it packets for addresses that it is not bound to.
//!
//! ```text
//! inlet up
//! inlet bind web tcp 192.0.2.0/24 80
//! ip route add local 192.0.2.0/24 dev lo
//! cargo run --example register -- web &
//! curl 192.0.2.7
//! ```

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpListener;

use inlet::{Instance, Location};

fn main() -> Result<(), Box<dyn Error>> {
    let service = std::env::args().nth(1).ok_or("usage: register SERVICE")?;
    let listener = listen(Location::default_for_this_process()?, &service)?;
    loop {
        answer(&listener)?;
    }
}

/// A listener at any port, which the service has from now on, until it is closed.
pub(crate) fn listen(location: Location, service: &str) -> Result<TcpListener, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // Nobody else reads or writes an instance while it is open, so it is closed at once.
    Instance::open(location)?.register(service, &listener)?;
    Ok(listener)
}

/// Answers one client with the address that it asked for, which is not the one that the listener is bound to.
pub(crate) fn answer(listener: &TcpListener) -> std::io::Result<()> {
    let (mut connection, client) = listener.accept()?;
    let asked = connection.local_addr()?;
    let _ = connection.read(&mut [0; 4096])?;
    write!(connection, "HTTP/1.0 200 OK\r\n\r\n{client} asked for {asked}\n")
}
