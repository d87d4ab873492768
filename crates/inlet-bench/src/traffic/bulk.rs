//! A stream of TCP from one thread to another, and the processor time that it takes.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::raw;

const CHUNK: usize = 256 << 10;
/// The unit of /proc/stat: USER_HZ, which is 100 on all architectures with this hook.
const TICKS_A_SECOND: f64 = 100.0;

/// What a stream came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bulk {
    pub(super) gigabytes_a_second: f64,
    pub(super) cpu_per_gb: f64,
    pub(super) softirq_per_gb: f64,
}

/// Streams for this long.
pub(super) fn stream(target: SocketAddr, listener: &TcpListener, time: Duration) -> Result<Bulk> {
    let mut client = TcpStream::connect(target)?;
    let (mut server, _) = listener.accept()?;
    let (softirq, ksoftirqd) = (softirq_seconds()?, ksoftirqd_seconds());
    let started = Instant::now();
    let (sent, received) = thread::scope(|scope| {
        let reader = scope.spawn(move || counted(|| read_all(&mut server)));
        let writer = scope.spawn(move || counted(|| write_for(&mut client, time)));
        (writer.join(), reader.join())
    });
    let elapsed = started.elapsed().as_secs_f64();
    let panicked = |_| io::Error::other("a thread of the stream panicked");
    let (_, writing) = sent.map_err(panicked)??;
    let (bytes, reading) = received.map_err(panicked)??;
    let gigabytes = bytes as f64 / 1e9;
    Ok(Bulk {
        gigabytes_a_second: gigabytes / elapsed,
        cpu_per_gb: (writing + reading + ksoftirqd_seconds() - ksoftirqd) / gigabytes,
        softirq_per_gb: (softirq_seconds()? - softirq) / gigabytes,
    })
}

/// The bytes that `work` moved, and the processor seconds of this thread.
fn counted(work: impl FnOnce() -> io::Result<u64>) -> io::Result<(u64, f64)> {
    Ok((work()?, raw::thread_seconds()))
}

fn read_all(server: &mut TcpStream) -> io::Result<u64> {
    let (mut buffer, mut bytes) = (vec![0; CHUNK], 0);
    loop {
        match server.read(&mut buffer)? {
            0 => return Ok(bytes),
            got => bytes += got as u64,
        }
    }
}

fn write_for(client: &mut TcpStream, time: Duration) -> io::Result<u64> {
    let (buffer, started, mut bytes) = (vec![0; CHUNK], Instant::now(), 0);
    while started.elapsed() < time {
        bytes += client.write(&buffer)? as u64;
    }
    client.shutdown(Shutdown::Both)?;
    Ok(bytes)
}

/// Softirq time of all processors.
fn softirq_seconds() -> io::Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let ticks = stat.lines().next().and_then(|line| line.split_whitespace().nth(7)?.parse::<f64>().ok());
    Ok(ticks.unwrap_or(0.0) / TICKS_A_SECOND)
}

/// Processor time of the kernel's softirq threads, as far as they can be seen from here.
fn ksoftirqd_seconds() -> f64 {
    let Ok(processes) = fs::read_dir("/proc") else { return 0.0 };
    let nanoseconds = |process: fs::DirEntry| {
        let path = process.path();
        let name = fs::read_to_string(path.join("comm")).ok()?;
        let schedule = name.starts_with("ksoftirqd/").then(|| fs::read_to_string(path.join("schedstat")).ok())??;
        schedule.split_whitespace().next()?.parse::<f64>().ok()
    };
    processes.flatten().filter_map(nanoseconds).sum::<f64>() * 1e-9
}
