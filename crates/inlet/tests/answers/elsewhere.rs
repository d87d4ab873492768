//! Clients that ask a server by a rule, and then from the same port where no rule leads, or where answers leave as bound.

use std::net::UdpSocket;

use inlet::AnswersState;
use inlet::rules::{Answers, Protocol, Target};
use inlet_testkit::{PATIENCE, World};

use crate::common::{bind, selector, snapshot, up};
use crate::{Echo, PREFIXES, set_answers, world};

/// A prefix without a rule for what is asked.
const OTHERS: [&str; 2] = ["198.51.100.0/24", "2001:db8:51::/64"];

fn client(addr: &str) -> UdpSocket {
    let client = UdpSocket::bind(addr).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

fn answer_to(client: &UdpSocket, asked: &str) -> String {
    client.send_to(b"who", asked).unwrap();
    client.recv_from(&mut [0; 16]).unwrap().1.to_string()
}

fn ambiguous(world: &World) -> u64 {
    let AnswersState::Asked { counters, .. } = snapshot(world).answers().unwrap() else { panic!() };
    counters.ambiguous
}

#[test]
fn what_no_rule_takes_is_answered_from_where_it_was_asked() {
    let Some(world) = world() else { return };
    OTHERS.iter().for_each(|prefix| world.local(prefix).unwrap());
    for (server, from, by_rule, [none, passed]) in [
        ("0.0.0.0:0", "127.0.0.1:0", "192.0.2.1", ["198.51.100.1", "198.51.100.2"]),
        ("[::]:0", "[::1]:0", "[2001:db8::1]", ["[2001:db8:51::1]", "[2001:db8:51::2]"]),
        ("[::]:0", "127.0.0.1:0", "192.0.2.1", ["198.51.100.1", "198.51.100.2"]),
    ] {
        let mut instance = up(&world);
        let echo = Echo::bound_to(server);
        let own = echo.port();
        PREFIXES.iter().for_each(|prefix| bind(&mut instance, "dns", Protocol::Udp, prefix, "53"));
        for prefix in ["198.51.100.2/32", "2001:db8:51::2/128"] {
            let rule = selector(Protocol::Udp, prefix, &own.to_string());
            instance.bind(&Target::Pass, &rule).unwrap();
        }
        instance.register("dns", &echo.socket).unwrap();
        drop(instance);
        let client = client(from);
        for round in 1..=3 {
            assert_eq!(answer_to(&client, &format!("{by_rule}:53")), format!("{by_rule}:53"));
            for asked in [none, passed] {
                assert_eq!(answer_to(&client, &format!("{asked}:{own}")), format!("{asked}:{own}"), "{server}");
            }
            assert_eq!(ambiguous(&world), round * 3 - 1);
        }
        // Whom no rule ever led here is none of Inlet's business: the kernel's usual answer.
        let stranger = self::client(from);
        assert_ne!(answer_to(&stranger, &format!("{none}:{own}")), format!("{none}:{own}"));
        inlet::Instance::down(&crate::common::here(&world)).unwrap();
    }
}

/// Another service still answers as asked, so all stays attached.
#[test]
fn a_service_that_changes_to_bound_forgets_what_it_was_asked() {
    let Some(world) = world() else { return };
    for (server, from, asked) in [
        ("0.0.0.0:0", "127.0.0.1:0", "192.0.2.1"),
        ("127.0.0.1:0", "127.0.0.1:0", "192.0.2.1"),
        ("[::]:0", "[::1]:0", "[2001:db8::1]"),
    ] {
        let mut instance = up(&world);
        let echo = Echo::bound_to(server);
        for (service, port) in [("dns", "53"), ("other", "54")] {
            PREFIXES.iter().for_each(|prefix| bind(&mut instance, service, Protocol::Udp, prefix, port));
        }
        instance.register("dns", &echo.socket).unwrap();
        let client = client(from);
        let asked = format!("{asked}:53");
        assert_eq!(answer_to(&client, &asked), asked);
        set_answers(&mut instance, "dns", Answers::Bound);
        let local = from.rsplit_once(':').unwrap().0;
        assert_eq!(answer_to(&client, &asked), format!("{local}:{}", echo.port()), "{server}");
        set_answers(&mut instance, "dns", Answers::Asked);
        assert_eq!(answer_to(&client, &asked), asked);
        drop(instance);
        inlet::Instance::down(&crate::common::here(&world)).unwrap();
    }
}

/// A server that names the address itself.
#[test]
fn what_a_server_names_itself_has_its_own_port_where_answers_leave_as_bound() {
    let Some(world) = world() else { return };
    let mut instance = up(&world);
    for (service, ports) in [("dns", "53-54"), ("other", "55")] {
        bind(&mut instance, service, Protocol::Udp, PREFIXES[0], ports);
    }
    let server = inlet::AskedSocket::new(UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    instance.register("dns", &server).unwrap();
    let own = std::net::UdpSocket::from(std::os::fd::AsFd::as_fd(&server).try_clone_to_owned().unwrap());
    let own = own.local_addr().unwrap().port();
    let client = client("127.0.0.1:0");
    let mut buffer = [0; 16];
    let mut answered = |port: u16| {
        client.send_to(b"who", format!("192.0.2.1:{port}")).unwrap();
        let question = server.receive(&mut buffer).unwrap().question;
        server.answer(b"me", &question).unwrap();
        client.recv_from(&mut [0; 16]).unwrap().1.to_string()
    };
    assert_eq!(answered(53), "192.0.2.1:53");
    set_answers(&mut instance, "dns", Answers::Bound);
    for port in [54, 53, 54] {
        assert_eq!(answered(port), format!("192.0.2.1:{own}"));
    }
}
