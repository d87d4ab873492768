//! The examples do what they say.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

#[allow(dead_code, reason = "the program of the example")]
#[path = "../examples/apply.rs"]
mod apply;
#[allow(dead_code, reason = "the program of the example")]
#[path = "../examples/echo.rs"]
mod echo;
#[allow(dead_code, reason = "the program of the example")]
#[path = "../examples/explain.rs"]
mod explain;
#[allow(dead_code, reason = "the program of the example")]
#[path = "../examples/register.rs"]
mod register;

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::thread;

use common::{bind, here, up};
use inlet::rules::Protocol;
use inlet_testkit::{PATIENCE, World};

const RULES: &str =
    "[[rules]]\nto = \"web\"\nprotocol = \"tcp\"\nlocal = \"192.0.2.0/24\"\nports = 80\n[services.web]\n";

#[test]
fn a_file_is_applied_a_listener_registered_and_a_packet_explained() {
    let Some(world) = World::new() else { return };
    world.local("192.0.2.0/24").unwrap();
    drop(up(&world));
    let file = std::env::temp_dir().join(format!("inlet-example-{}.toml", std::process::id()));
    std::fs::write(&file, RULES).unwrap();
    let applied = apply::apply(here(&world), &file);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(applied.unwrap(), "1 rules changed, generation 2 is in force");
    let explain = || explain::explain(here(&world), "192.0.2.7:80".parse().unwrap(), "203.0.113.9:9".parse().unwrap());
    assert_eq!(explain().unwrap(), "rule tcp 192.0.2.0/24 80 -> web: refused");

    let listener = register::listen(here(&world), "web").unwrap();
    let bound = listener.local_addr().unwrap();
    assert_eq!(explain().unwrap(), format!("rule tcp 192.0.2.0/24 80 -> web: socket tcp:{bound}"));
    let said = thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut client = TcpStream::connect("192.0.2.7:80").unwrap();
            client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
            let mut said = String::new();
            client.read_to_string(&mut said).unwrap();
            said
        });
        register::answer(&listener).unwrap();
        client.join().unwrap()
    });
    assert!(said.ends_with(" asked for 192.0.2.7:80\n"), "{said}");
}

#[test]
fn the_echo_answers_from_where_it_was_asked() {
    let Some(world) = World::new() else { return };
    world.local("192.0.2.0/24").unwrap();
    bind(&mut up(&world), "echo", Protocol::Udp, "192.0.2.0/24", "7");
    let server = echo::open(here(&world), "echo").unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let targets = ["192.0.2.7:7", "192.0.2.8:7"];
    targets.iter().for_each(|target| _ = client.send_to(b"hello", target).unwrap());
    for target in targets {
        echo::answer(&server).unwrap();
        let mut text = [0; 64];
        let (len, from) = client.recv_from(&mut text).unwrap();
        assert_eq!((from.to_string(), &text[..len]), (target.to_owned(), format!("{target}: hello").as_bytes()));
    }
    // One that is too long has no answer, and the next one has.
    client.send_to(&[0; 5000], targets[0]).unwrap();
    client.send_to(b"hello", targets[0]).unwrap();
    (0..2).for_each(|_| echo::answer(&server).unwrap());
    assert_eq!(client.recv_from(&mut [0; 64]).unwrap().0, "192.0.2.7:7: hello".len());
}
