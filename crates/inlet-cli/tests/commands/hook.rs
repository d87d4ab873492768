//! The hook: who is on it, and what a script sees when Inlet's link is gone.

use inlet_testkit::TcpServer;
use serde_json::{Value, json};

use crate::asked::until;
use crate::{Host, Ran, at};

/// An instance that steers to a server.
fn host() -> Option<(Host, TcpServer)> {
    let host = Host::up()?;
    host.world.local("192.0.2.0/24").unwrap();
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "80"]);
    let server = TcpServer::spawn("web", at("127.0.0.1:8080")).unwrap();
    let pid = std::process::id().to_string();
    host.ok(&["register", "web", "--pid", &pid, "--listen", "tcp:127.0.0.1:8080"]);
    Some((host, server))
}

fn document(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn status_lists_the_programs_on_the_hook() {
    let Some((host, _server)) = host() else { return };
    assert!(host.ok(&["status"]).contains("hook        inlet alone\n"), "{}", host.ok(&["status"]));
    let said = host.json(&["status"]);
    let program = &said["hook"][0];
    assert_eq!(
        (&said["steering"], &program["inlet"], &program["name"]),
        (&true.into(), &true.into(), &"inlet_steer".into())
    );
    assert_eq!(said["hook"].as_array().unwrap().len(), 1);
    let told = host.json(&["explain", "tcp", "192.0.2.9:80"])["program"].clone();
    assert_eq!((&told["asked"], &told["steering"], &told["hook"]), (&true.into(), &true.into(), &said["hook"]));
    // A ruleset that is not in force has no program.
    let file = host.feed(&["explain", "tcp", "192.0.2.9:80", "--file", "-", "--json"], r#"{"rules": []}"#);
    assert_eq!(document(&file)["program"]["hook"], json!(null));
}

#[test]
fn a_link_that_is_gone_fails_every_command_that_says_what_happens() {
    let Some((host, _server)) = host() else { return };
    let directory = host.json(&["status"])["instance"]["directory"].as_str().unwrap().to_owned();
    std::fs::remove_file(format!("{directory}/link")).unwrap();
    // The kernel lets go of the link a moment later.
    until("the link is gone", || host.run(&["status"]).stderr.contains("no packet is steered"));
    let fails = |args: &[&str]| {
        let ran = host.run(args);
        assert_eq!(ran.code, Some(1), "{args:?}");
        assert!(
            ran.stderr.contains("/link is gone, so no packet is steered\nfix: begin anew: inlet export"),
            "{}",
            ran.stderr
        );
        ran
    };
    assert!(fails(&["status"]).stdout.contains("hook        nothing is steered\n"));
    assert_eq!(document(&fails(&["status", "--json"]))["steering"], false);
    let question = ["explain", "tcp", "192.0.2.9:80"];
    let said = fails(&question).stdout;
    assert!(said.contains("verdict   nothing is steered: the kernel's ordinary lookup decides"), "{said}");
    let said = document(&fails(&[&question[..], &["--json"]].concat()));
    assert_eq!((&said["outcome"], &said["socket"], &said["candidates"]), (&"pass".into(), &json!(null), &json!([])));
    let check = host.run(&["check", "--json"]);
    assert_eq!(check.code, Some(1));
    let found = document(&check)["findings"][0].clone();
    assert_eq!((&found["severity"], &found["code"]), (&"error".into(), &"not-steering".into()));
    fails(&["bind", "--pass", "tcp", "192.0.2.0/24", "22"]);
    // What the fix says.
    let rules = host.ok(&["export"]);
    host.ok(&["down"]);
    host.ok(&["up"]);
    assert_eq!(host.apply(&rules).code, Some(0));
    assert_eq!(host.ok(&["export"]), rules);
    host.ok(&["status"]);
}
