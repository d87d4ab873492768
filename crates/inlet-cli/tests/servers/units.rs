//! The units of contrib/systemd: systemd understands them, and what they run works.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use inlet_testkit::{Program, output, output_with, require_program};
use tempfile::TempDir;

use crate::{Host, wait_until};

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib/systemd")
}

/// Templates have an instance, as only such can be verified, and the socket unit that it is for. Sockets are enabled,
/// so that a boot that would have to wait for itself is found.
#[test]
fn systemd_understands_them() {
    if !require_program("systemd-analyze") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let enabled = dir.path().join("sockets.target.wants");
    fs::create_dir(&enabled).unwrap();
    fs::write(dir.path().join("web.socket"), "[Socket]\nListenStream=127.0.0.1:8080\n").unwrap();
    let mut units = vec!["basic.target".to_owned()];
    for entry in fs::read_dir(shipped()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap().replace("@.", "@web.");
        let unit = fs::read_to_string(entry.path()).unwrap();
        fs::write(dir.path().join(&name), unit.replace("/usr/bin/inlet", env!("CARGO_BIN_EXE_inlet"))).unwrap();
        if name.ends_with(".socket") {
            symlink(Path::new("..").join(&name), enabled.join(&name)).unwrap();
        }
        units.push(name);
    }
    assert!(units.len() >= 8, "{units:?}");
    // The man pages are not installed here. A key that systemd does not know is no failure for it, but it says so.
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).args(&units).env("SYSTEMD_UNIT_PATH", format!("{}:", dir.path().display()));
    let output = output(&mut verify).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let (too_new, wrong): (Vec<_>, Vec<_>) = said.lines().partition(|line| line.contains("PassFileDescriptorsToExec"));
    assert!(output.status.success() && wrong.is_empty(), "{}: {said}", output.status);
    assert_eq!(too_new.len(), usize::from(systemd_version() < 256), "{said}");
}

/// What runs for long can do little else than its work: see `systemd-analyze security`.
#[test]
fn what_runs_for_long_is_confined() {
    if !require_program("systemd-analyze") {
        return;
    }
    let dir = TempDir::new().unwrap();
    for (unit, instance) in [
        ("inlet-watch.service", "inlet-watch.service"),
        ("inlet-watch@.service", "inlet-watch@web.service"),
        ("inlet-grantd.service", "inlet-grantd.service"),
    ] {
        let unit = fs::read_to_string(shipped().join(unit)).unwrap();
        let path = dir.path().join(instance);
        fs::write(&path, unit.replace("/usr/bin/inlet", env!("CARGO_BIN_EXE_inlet"))).unwrap();
        let mut ask = Command::new("systemd-analyze");
        ask.args(["security", "--offline=yes", "--threshold=25"]).arg(&path);
        let output = output(&mut ask).unwrap();
        assert!(output.status.success(), "{instance}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

fn systemd_version() -> u32 {
    let output = output(Command::new("systemd-analyze").arg("--version")).unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    said.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The command lines of a unit with this key, for the command under test. This machine need not have the group.
fn lines(unit: &str, key: &str) -> Vec<String> {
    let text = fs::read_to_string(shipped().join(unit)).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let lines: Vec<String> = lines.map(|line| line.replace("--group inlet", "--group root")).collect();
    assert!(lines.iter().all(|line| line.starts_with("/usr/bin/inlet ")), "{unit}: {lines:?}");
    lines.into_iter().map(|line| line.replace("/usr/bin/inlet", env!("CARGO_BIN_EXE_inlet"))).collect()
}

/// A command line as a unit runs it.
fn shell(host: &Host, line: &str, ruleset: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(line.replace("/etc/inlet/inlet.toml", ruleset.to_str().unwrap()));
    command.env("INLET_BPFFS", host.world.bpffs.path());
    command
}

#[track_caller]
fn succeed(host: &Host, lines: &[String], ruleset: &Path) {
    assert!(!lines.is_empty());
    for line in lines {
        let output = output(&mut shell(host, line, ruleset)).unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn what_they_run_works() {
    let Some(host) = Host::new() else { return };
    let dir = TempDir::new().unwrap();
    let ruleset = dir.path().join("inlet.toml");
    // At boot no unit runs yet.
    fs::write(&ruleset, "rules = []\n[services.dns]\nlisten = \"udp:127.0.0.1:5353\"\nunit = \"no-such.service\"\n")
        .unwrap();
    let unit = "inlet.service";
    assert_eq!(lines(unit, "ExecStart").len(), 2);
    succeed(&host, &lines(unit, "ExecStart"), &ruleset);
    assert_eq!(host.json(&["services"])[0]["described"]["unit"], "no-such.service");
    // Started once more, and reloaded.
    succeed(&host, &[lines(unit, "ExecStart"), lines(unit, "ExecReload")].concat(), &ruleset);
    let watch = lines("inlet-watch.service", "ExecStart");
    let watching = Program::start(&mut shell(&host, &watch[0], &ruleset)).unwrap();
    wait_until("the watcher", || host.json(&["status"])["watched"] == true);
    drop(watching);
    succeed(&host, &lines(unit, "ExecStop"), &ruleset);
    host.fails(&["status"], "inlet up");
}

/// As systemd runs the command lines of units that get sockets: these are descriptors from 3 on, for the process that
/// it starts.
#[test]
fn units_that_get_sockets_register_them() {
    let Some(host) = Host::up() else { return };
    for (unit, key, service) in
        [("inlet-example.socket", "ExecStartPost", "example"), ("inlet-register@.service", "ExecStart", "web")]
    {
        host.ok(&["bind", service, "tcp", "192.0.2.0/24", if service == "web" { "80" } else { "81" }]);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let line = lines(unit, key).remove(0).replace("%i", service);
        let script = r#"exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec $1"#;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, "sh", &line]);
        command.env("INLET_BPFFS", host.world.bpffs.path());
        let output = output_with(&mut command, OwnedFd::from(listener.try_clone().unwrap())).unwrap();
        let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let wanted = format!("adopted  tcp:{}", listener.local_addr().unwrap());
        assert!(output.status.success() && said.starts_with(&wanted), "{unit}: {said}{error}");
    }
}
