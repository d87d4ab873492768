//! Instances of two network namespaces know nothing of each other's flows, also where their ends are the same. Control groups
//! span namespaces, so the programs of both run for each send.

use std::net::UdpSocket;

use inlet::rules::{Protocol, Sticky};
use inlet::{AnswersState, Instance, ServiceRequest, UpOptions};
use inlet_testkit::{Namespace, Netns, PATIENCE};

use crate::common::{bind, here, snapshot};
use crate::{PREFIXES, world};

/// Both ends of the flow, in either namespace; and where it asks, which differs.
const SERVER: &str = "127.0.0.1:5300";
const CLIENT: &str = "127.0.0.1:4000";
const ASKED: [&str; 2] = ["192.0.2.1:53", "192.0.2.2:54"];

fn socket(addr: &str) -> UdpSocket {
    let socket = UdpSocket::bind(addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn two_namespaces_with_the_same_flow() {
    let Some(world) = world() else { return };
    let other = Netns::unentered().unwrap();
    other.local(PREFIXES[0]).unwrap();
    let namespaces: [&Namespace; 2] = [&world, &other];
    let ends: Vec<[UdpSocket; 2]> = (0..2)
        .map(|at| {
            namespaces[at].enter(|| {
                let mut instance = Instance::up(here(&world), &UpOptions::default()).unwrap();
                bind(&mut instance, "dns", Protocol::Udp, PREFIXES[0], "53-54");
                let request = ServiceRequest { sticky: Sticky::new(300), ..ServiceRequest::default() };
                instance.set_service(&"dns".parse().unwrap(), request).unwrap();
                let [server, client] = [SERVER, CLIENT].map(socket);
                instance.register("dns", &server).unwrap();
                client.connect(ASKED[at]).unwrap();
                [server, client]
            })
        })
        .collect();
    let exchange = |ends: &[[UdpSocket; 2]]| {
        // All ask before one is answered: a note of one must not stand in the way of another one's.
        ends.iter().for_each(|[_, client]| _ = client.send(b"who").unwrap());
        for [server, _] in ends {
            let (_, from) = server.recv_from(&mut [0; 8]).unwrap();
            assert_eq!(from.to_string(), CLIENT);
            server.send_to(b"me", from).unwrap();
        }
        // The kernel gives a connected socket only what comes from where it asked.
        ends.iter().for_each(|[_, client]| assert_eq!(client.recv(&mut [0; 8]).unwrap(), 2));
    };
    (0..3).for_each(|_| exchange(&ends));
    let flows = |namespace: &Namespace| {
        namespace.enter(|| {
            let AnswersState::Asked { table, counters, .. } = snapshot(&world).answers().unwrap() else { panic!() };
            let stays = snapshot(&world).stays().unwrap().unwrap();
            [table.flows, counters.noted, counters.ambiguous, counters.addressed, stays.flows]
        })
    };
    for namespace in namespaces {
        assert_eq!(flows(namespace), [1, 1, 0, 3, 1]);
    }
    // One goes, and the other one goes on.
    Instance::down(&here(&world)).unwrap();
    exchange(&ends[1..]);
    assert_eq!(flows(&other), [1, 1, 0, 4, 1]);
    other.enter(|| Instance::down(&here(&world)).unwrap());
}
