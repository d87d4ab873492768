//! The kit's own tests. They need root, and pass in parallel.

// clippy.toml allows this in test functions; these are what they call.
#![allow(clippy::unwrap_used)]

mod killed;
mod programs;
mod surroundings;
mod traffic;

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use inlet_testkit::Answer;
pub(crate) use inlet_testkit::PATIENCE;

pub(crate) const SHORT: Duration = Duration::from_millis(200);

pub(crate) fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn stdout(command: &mut Command) -> String {
    let output = inlet_testkit::output(command).unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub(crate) fn thread_netns() -> String {
    let link = fs::read_link("/proc/thread-self/ns/net").unwrap();
    link.to_string_lossy().into_owned()
}

/// The mounts of the main thread, which no test moves.
pub(crate) fn host_mounts() -> String {
    fs::read_to_string("/proc/self/mounts").unwrap()
}

#[track_caller]
pub(crate) fn assert_from(answer: &Answer, name: &str, local: &str) {
    assert_eq!(answer.name(), Some(name), "{answer:?}");
    assert_eq!(answer.local(), Some(at(local)), "{answer:?}");
}
