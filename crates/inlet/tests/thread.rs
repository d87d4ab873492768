//! The thin thread: from `up` over a rule to a real packet in a real socket.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use common::{here, selector, to};
use inlet::rules::{Packet, Protocol};
use inlet::{Agreement, Instance, Snapshot, UpOptions};
use inlet_testkit::{Dial, TcpServer, World, dial_tcp};

#[test]
fn a_packet_reaches_the_socket_of_its_rule() {
    let Some(world) = World::new() else { return };
    world.netns.local("192.0.2.0/24").unwrap();
    let server = TcpServer::spawn("web", "127.0.0.1:8080".parse().unwrap()).unwrap();

    let mut instance = Instance::up(here(&world), &UpOptions::default()).unwrap();
    let committed = instance.bind(&to("web"), &selector(Protocol::Tcp, "192.0.2.0/24", "80-90")).unwrap();
    assert_eq!(committed.generation, 2);
    let target = "192.0.2.7:85".parse().unwrap();
    assert_eq!(dial_tcp(target, &Dial::new()), inlet_testkit::Answer::Refused);
    instance.register("web", &server).unwrap();
    let answer = dial_tcp(target, &Dial::new());
    assert_eq!((answer.name(), answer.local()), (Some("web"), Some(target)));
    assert_eq!(dial_tcp("192.0.2.7:91".parse().unwrap(), &Dial::new()), inlet_testkit::Answer::Refused);
    drop(instance);

    let snapshot = Snapshot::open(here(&world)).unwrap();
    let services = snapshot.services().unwrap();
    assert_eq!(services[0].counters.steered, 1);
    assert_eq!(services[0].counters.missed, 1);
    let packet = Packet::new(Protocol::Tcp, target, "192.0.2.9:1234".parse().unwrap());
    let explanation = snapshot.explain(&packet).unwrap();
    assert_eq!(explanation.live, Agreement::Agrees);
    assert_eq!(explanation.socket.unwrap().local.unwrap().to_string(), "tcp:127.0.0.1:8080");
    assert_eq!(snapshot.services().unwrap()[0].counters.steered, 1);
    drop(snapshot);

    Instance::down(&here(&world)).unwrap();
    assert_eq!(dial_tcp(target, &Dial::new()), inlet_testkit::Answer::Refused);
}
