//! Many small things: connects and datagrams. One thread is client and server, so each is done by the time the call
//! returns, no processor waits for another, and the rate is what it costs.

use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use crate::Result;
use crate::traffic::setup::Lane;

const BATCH: usize = 32;

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

/// Sends datagrams and receives them; how many were received a second.
pub(super) fn datagrams(lane: &Lane, time: Duration) -> Result<f64> {
    let client = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    client.connect(lane.target)?;
    lane.udp.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut payload = [0; 64];
    let (started, mut done) = (Instant::now(), 0);
    while started.elapsed() < time {
        for _ in 0..BATCH {
            client.send(&payload)?;
        }
        for _ in 0..BATCH {
            lane.udp.recv(&mut payload)?;
        }
        done += BATCH;
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}
