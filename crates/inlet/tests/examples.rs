//! The examples do what they say.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

#[allow(dead_code, reason = "the program of the example")]
#[path = "../examples/apply.rs"]
mod apply;
#[allow(dead_code, reason = "the program of the example")]
#[path = "../examples/explain.rs"]
mod explain;
#[allow(dead_code, reason = "the program of the example")]
#[path = "../examples/register.rs"]
mod register;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use common::{here, up};
use inlet_testkit::World;

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
