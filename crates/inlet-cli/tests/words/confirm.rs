//! Rulesets that are in force for a time: confirmed, gone back from, taken back.

use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::Host;
use crate::asked::{asked, ok, until, waiting};
use crate::plan::{PROXY, WEB, host};

#[test]
fn rollback_goes_back_and_forth() {
    let Some(host) = Host::up() else { return };
    host.fails(&["rollback"], "there is no previous ruleset to go back to: nothing was changed since inlet up");
    ok(host.apply(WEB));
    let web = host.ok(&["export"]);
    ok(host.apply(PROXY));
    let proxy = host.ok(&["export"]);
    let said = host.ok(&["rollback"]);
    assert!(
        said.starts_with("~ service web (on missing: refuse, was pass)\n") && said.ends_with("generation 4\n"),
        "{said}"
    );
    assert_eq!(host.ok(&["export"]), web);
    assert_eq!(host.json(&["rollback"])["generation"], 5);
    assert_eq!(host.ok(&["export"]), proxy);
}

#[test]
fn what_is_not_confirmed_goes() {
    let Some((host, _servers)) = host() else { return };
    let web = host.ok(&["export"]);
    let said = ok(host.feed(&["apply", "--confirm", "5", "-"], PROXY));
    assert!(said.ends_with("generation 3\ngoes back in 5 seconds unless confirmed with: inlet confirm\n"), "{said}");
    assert_eq!(asked("192.0.2.7:443"), "proxy");
    until("it goes back", || host.ok(&["export"]) == web);
    assert_eq!(asked("192.0.2.7:443"), "web");
    assert_eq!(host.json(&["status"])["confirm"], Value::Null);
    until("who waited ends", || waiting(&host).is_empty());
    host.fails(&["confirm"], "nothing waits for confirmation\nfix: look at what is in force with: inlet status");
}

#[test]
fn what_is_confirmed_stays() {
    let Some((host, _servers)) = host() else { return };
    let said: Value =
        serde_json::from_str(&ok(host.feed(&["apply", "--confirm", "600", "-", "--json"], PROXY))).unwrap();
    assert_eq!((&said["generation"], &said["confirm_within"]), (&json!(3), &json!(600)));
    let status = host.json(&["status"]);
    assert_eq!(status["confirm"]["waiting"], true);
    let left = status["confirm"]["seconds_left"].as_u64().unwrap();
    assert!((500..=600).contains(&left), "{left}");
    assert!(host.ok(&["status"]).contains("seconds unless confirmed with: inlet confirm"));
    let ran = host.apply(WEB);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.contains("waits for confirmation")
            && ran.stderr.ends_with("\nfix: inlet confirm, or inlet rollback\n"),
        "{}",
        ran.stderr
    );
    host.fails(&["bind", "web", "udp", "192.0.2.0/24", "53"], "\nfix: inlet confirm, or inlet rollback");
    let [pid] = waiting(&host)[..] else { panic!("{:?}", waiting(&host)) };
    survives_the_terminal(pid);
    assert_eq!(host.ok(&["confirm"]), "generation 3 stays\n");
    until("who waited ends", || waiting(&host).is_empty());
    assert_eq!(asked("192.0.2.7:443"), "proxy");
    ok(host.apply(WEB));
    // No change is nothing to wait for.
    assert_eq!(ok(host.feed(&["apply", "--confirm", "600", "-"], WEB)), "no change\ngeneration 4\n");
    until("nobody waits", || waiting(&host).is_empty());
    assert_eq!(host.json(&["status"])["confirm"], Value::Null);
}

/// It has its own session, does not mind a hang-up, and has nothing of the terminal open.
fn survives_the_terminal(pid: i32) {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let stat = read("stat");
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let (group, session, terminal) = (fields[2], fields[3], fields[4]);
    assert_eq!((group, session, terminal), (pid.to_string().as_str(), pid.to_string().as_str(), "0"));
    let status = read("status");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & 1, 1, "SIGHUP is ignored");
    for fd in 0..3 {
        let open = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
        assert_eq!(open, PathBuf::from("/dev/null"), "{fd}");
    }
    kill_process(Pid::from_raw(pid).unwrap(), Signal::HUP).unwrap();
    assert!(std::fs::exists(format!("/proc/{pid}")).unwrap());
}

/// Killed, the one who waits leaves the new ruleset in force; the next command that changes something after the time
/// goes back first, and says so.
#[test]
fn who_waits_may_be_killed() {
    let Some((host, _servers)) = host() else { return };
    let web = host.ok(&["export"]);
    ok(host.feed(&["apply", "--confirm", "5", "-"], PROXY));
    let proxy = host.ok(&["export"]);
    for pid in waiting(&host) {
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }
    until("nobody waits", || host.json(&["status"])["confirm"]["waiting"] == false);
    until("the time is over", || host.json(&["status"])["confirm"]["seconds_left"] == 0);
    assert_eq!((host.ok(&["export"]), asked("192.0.2.7:443")), (proxy, "proxy".to_owned()));
    assert!(host.ok(&["status"]).contains("not confirmed in time: the next change goes back first"));
    let ran = host.run(&["service", "set", "new"]);
    assert_eq!(ran.code, Some(0));
    assert_eq!(
        ran.stderr,
        "note: generation 3 was not confirmed in time; the previous ruleset is in force again (generation 4)\n"
    );
    assert_eq!(
        (asked("192.0.2.7:443").as_str(), ran.stdout.as_str()),
        ("web", "+ service new (on missing: refuse)\ngeneration 5\n")
    );
    host.ok(&["service", "rm", "new"]);
    assert_eq!(host.ok(&["export"]), web);
}

#[test]
fn who_confirms_too_late_is_told() {
    let Some((host, _servers)) = host() else { return };
    ok(host.feed(&["apply", "--confirm", "5", "-"], PROXY));
    for pid in waiting(&host) {
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }
    until("the time is over", || host.json(&["status"])["confirm"]["seconds_left"] == 0);
    host.fails(
        &["confirm"],
        "too late: generation 3 was not confirmed in time, and the previous ruleset is in force again (generation 4)",
    );
    assert_eq!(asked("192.0.2.7:443"), "web");
}

/// In another namespace the one who waits is in that one.
#[test]
fn another_namespace_goes_back_too() {
    let Some(host) = Host::new() else { return };
    let other = inlet_testkit::Netns::unentered().unwrap();
    let path = other.path().to_str().unwrap();
    host.ok(&["--netns", path, "up"]);
    ok(host.feed(&["--netns", path, "apply", "--confirm", "5", "-"], WEB));
    assert_eq!(host.json(&["--netns", path, "rules"]).as_array().unwrap().len(), 4);
    until("it goes back", || host.json(&["--netns", path, "rules"]) == json!([]));
    host.ok(&["--netns", path, "down"]);
    until("who waited ends", || waiting(&host).is_empty());
}
