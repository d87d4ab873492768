//! Servers of the time.

use std::path::PathBuf;
use std::process::Command;

use inlet_testkit::{output, require};

use super::{EXCHANGES, Kind, Server, Surroundings, Targets, V4, V6};
use crate::conf;

/// Prints where a chronyd is.
const SCRIPT_CHRONYD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/chronyd");

/// A question for the time (RFC 5905, 7.3): version 4, a client, and the time at which it asks, whose number the answer
/// has as its origin.
const TIME: Kind = Kind {
    question: |number| {
        const VERSION_AND_CLIENT: u8 = 4 << 3 | 3;
        let sent = (number as u64 + 1).to_be_bytes();
        [&[VERSION_AND_CLIENT][..], &[0; 39], &sent].concat()
    },
    check: |question, answer, about| {
        const SERVER: u8 = 4;
        assert_eq!((answer.len(), answer[0] & 7, &answer[24..32]), (48, SERVER, &question[40..]), "{about}");
    },
    exchanges: EXCHANGES,
};

/// The program, when there is one.
fn program() -> Option<PathBuf> {
    let found = output(&mut Command::new(SCRIPT_CHRONYD)).unwrap();
    let path = String::from_utf8(found.stdout).unwrap();
    require(found.status.success(), "chronyd (scripts/chronyd fetch)").then(|| path.trim_end().into())
}

#[test]
fn chronyd() {
    let Some(surroundings) = Surroundings::new() else { return };
    let Some(program) = program() else { return };
    let ways: [(&str, Targets); 4] = [("127.0.0.1", &[V4]), ("0.0.0.0", &[V4]), ("::1", &[V6]), ("::", &[V6])];
    for (bound, targets) in ways {
        let server = Server { bound, targets, sockets: 1 };
        surroundings.answers(TIME, &server, |dir| {
            let conf = format!(
                "port 5300\nbindaddress {bound}\nallow all\nlocal stratum 8\ncmdport 0\npidfile {}\n",
                dir.path().join("pid").display()
            );
            // Of one family: else it opens a socket of the other one too, before or after.
            let family = if bound.contains(':') { "-6" } else { "-4" };
            let args = ["-d", "-x", family, "-u", "root", "-f"];
            conf::command(program.to_str().unwrap(), &args, dir.path(), "chrony.conf", &conf)
        });
    }
}
