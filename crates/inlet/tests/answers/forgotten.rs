//! Questions of the host's clients that are forgotten: to make room for others, and two minutes after they were asked.
//! The rules then decide about their answers. Who receives is counted at the sockets.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use inlet::Instance;
use inlet_testkit::World;
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::clients::{ENDS, gets, outside, port, rules, socket};
use crate::common::{here, up};

/// An address behind the veth pair.
const BEHIND: [&str; 2] = ["10.9.8.2", "2001:db8:98::2"];

/// Two minutes, in the ticks of clients.bpf.h: of 2^30 ns.
const ANSWER_TICKS: u32 = 112;

/// An instance whose rules take every port of UDP, with the socket that gets all of them.
fn all_taken(world: &World) -> (Instance, UdpSocket) {
    let mut instance = up(world);
    let service = socket("::", 0);
    rules(&mut instance, "all", "1-65535");
    instance.register("all", &service).unwrap();
    (instance, service)
}

/// A client asks more than the table holds, each port of a server once. The newest half of a full table keep their
/// answers. The oldest are long gone, and theirs go by the rules.
#[test]
fn more_questions_than_the_table_holds() {
    const TABLE: u16 = 32_768;
    // Each processor keeps its last 128 notes apart from the others. Those of one that asks no more would stay.
    stay_on_a_processor();
    for (family, [own, other]) in ENDS.into_iter().enumerate() {
        let Some(world) = World::new() else { return };
        let outside = outside(&world);
        let (_instance, service) = all_taken(&world);
        let (behind, family) = (BEHIND[family], if family == 0 { "-4" } else { "-6" });
        world.ip(&[family, "route", "add", behind, "via", other]).unwrap();
        // An error for a question counts as an answer, and keeps the note longer.
        outside.ip(&[family, "route", "add", "blackhole", behind]).unwrap();
        let client = socket(own, 0);
        let client_at = client.local_addr().unwrap();
        for port in 1..=u16::MAX {
            client.send_to(b"question", SocketAddr::new(behind.parse().unwrap(), port)).unwrap();
        }
        outside.ip(&[family, "addr", "add", behind, "dev", "outside", "nodad"]).unwrap();
        let answers = |port: u16, at: &UdpSocket| {
            let server = outside.enter(|| socket(behind, port));
            gets(&server, client_at, at, &format!("answer {port}"));
        };
        (1..TABLE / 2).step_by(61).for_each(|port| answers(port, &service));
        (u16::MAX - TABLE / 2..=u16::MAX).step_by(61).for_each(|port| answers(port, &client));
        // A question that is asked again is the youngest.
        let server = outside.enter(|| socket(behind, 1));
        gets(&client, server.local_addr().unwrap(), &server, "again");
        gets(&server, client_at, &client, "answer");
        // Others come to the service at every port as before, and its answers go out.
        let stranger = outside.enter(|| socket(other, 0));
        gets(&stranger, client_at, &service, "to the service");
        gets(&stranger, SocketAddr::new(client_at.ip(), 53), &service, "elsewhere");
        gets(&service, stranger.local_addr().unwrap(), &stranger, "answer of the service");
    }
}

/// From now on this thread runs on one processor.
pub(crate) fn stay_on_a_processor() {
    let allowed = sched_getaffinity(None).unwrap();
    let first = (0..CpuSet::MAX_CPU).find(|number| allowed.is_set(*number)).unwrap();
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one).unwrap();
}

fn open(path: &Path) -> MapHandle {
    MapHandle::from_pinned_path(path).unwrap()
}

/// So many ticks earlier; never 0, which says that nothing was asked.
fn earlier(tick: [u8; 4], ticks: u32) -> [u8; 4] {
    let then = u32::from_ne_bytes(tick).wrapping_sub(ticks);
    if then == 0 { 1_u32.wrapping_neg() } else { then }.to_ne_bytes()
}

/// Makes the notes look as if so many ticks had gone by since: of a question, and of the port that it was asked from.
fn age(world: &World, asked_from: u16, ticks: u32) {
    let dir = here(world).dir().join("answers");
    let clients = open(&dir.join("clients"));
    let notes: Vec<Vec<u8>> = clients.keys().collect();
    assert_eq!(notes.len(), 1);
    let tick = clients.lookup(&notes[0], MapFlags::ANY).unwrap().unwrap();
    clients.update(&notes[0], &earlier(tick.try_into().unwrap(), ticks), MapFlags::EXIST).unwrap();
    let asking = open(&dir.join("asking"));
    let mut all = asking.lookup(&[0; 4], MapFlags::ANY).unwrap().unwrap();
    let at = usize::from(asked_from) * 4;
    let tick: [u8; 4] = all[at..at + 4].try_into().unwrap();
    all[at..at + 4].copy_from_slice(&earlier(tick, ticks));
    asking.update(&[0; 4], &all, MapFlags::ANY).unwrap();
}

/// For two minutes an answer passes, and then goes by the rules. Asking again begins anew; what comes in does not.
#[test]
fn two_minutes_after_the_question() {
    for [own, other] in ENDS {
        let Some(world) = World::new() else { return };
        let outside = outside(&world);
        let (_instance, service) = all_taken(&world);
        let client = socket(own, 0);
        let (client_at, from) = (client.local_addr().unwrap(), port(&client));
        let server = outside.enter(|| socket(other, 0));
        let ask = |text| gets(&client, server.local_addr().unwrap(), &server, text);
        // A second of the test itself is less than 12 of them.
        let young = ANSWER_TICKS - 12;
        ask("question");
        age(&world, from, young);
        gets(&server, client_at, &client, "in time");
        age(&world, from, ANSWER_TICKS - young);
        gets(&server, client_at, &service, "too late");
        ask("again");
        gets(&server, client_at, &client, "in time again");
        age(&world, from, ANSWER_TICKS);
        gets(&server, client_at, &service, "too late again");
        // Another question from that port revives its note alone.
        let third = outside.enter(|| socket(other, 0));
        gets(&client, third.local_addr().unwrap(), &third, "another question");
        gets(&third, client_at, &client, "in time");
        gets(&server, client_at, &service, "still too late");
    }
}
