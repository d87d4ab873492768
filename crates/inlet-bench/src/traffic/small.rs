//! Many small things: connects and datagrams. One thread is client and server, so each is done by the time the call
//! returns, no processor waits for another, and the rate is what it costs.

use std::io;
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use crate::Result;
use crate::stats::median;
use crate::traffic::setup::Lane;

pub(super) const BATCH: usize = 32;

/// Connects, accepts and closes; how many a second.
pub(super) fn connects(lane: &Lane, time: Duration) -> Result<f64> {
    let (started, mut done) = (Instant::now(), 0);
    while started.elapsed() < time {
        for _ in 0..BATCH {
            let client = TcpStream::connect(lane.target)?;
            let (server, _) = lane.tcp.accept()?;
            // A reset leaves nothing behind that would use up ports.
            sockopt::set_socket_linger(&client, Some(Duration::ZERO))?;
            drop((client, server));
        }
        done += BATCH;
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}

/// Sends datagrams and receives them at the server; how many were received a second.
pub(super) fn datagrams(lane: &Lane, time: Duration) -> Result<f64> {
    let client = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    client.connect(lane.target)?;
    lane.udp.set_read_timeout(Some(Duration::from_secs(1)))?;
    let (started, mut done) = (Instant::now(), 0);
    while started.elapsed() < time {
        pass(&lane.udp, |payload| client.send(payload))?;
        done += BATCH;
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}

/// Sends and receives some datagrams.
pub(super) fn pass(receiver: &UdpSocket, send: impl Fn(&[u8]) -> io::Result<usize>) -> Result<()> {
    let mut payload = [0; 64];
    for _ in 0..BATCH {
        send(&payload)?;
    }
    for _ in 0..BATCH {
        receiver.recv(&mut payload)?;
    }
    Ok(())
}

/// Does a batch of things over and over, and gives how many things a second a batch in the middle did. So what else runs
/// on the machine is not seen, as long as most batches are done in one go.
pub(super) fn usual(time: Duration, mut batch: impl FnMut() -> Result<()>) -> Result<f64> {
    let (started, mut took) = (Instant::now(), Vec::new());
    while started.elapsed() < time {
        let begun = Instant::now();
        batch()?;
        took.push(begun.elapsed().as_secs_f64());
    }
    Ok(BATCH as f64 / median(took))
}
