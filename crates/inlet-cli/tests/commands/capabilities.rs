//! Which capabilities each command needs: it does its work with these and no others, and with one fewer its error names
//! the one that is missing. docs/access.md has the table.

use std::path::Path;
use std::process::Command;

use inlet_testkit::{Caps, Cgroup, Program, TcpServer, as_user, limit_caps, output};

use crate::{Host, at};

const CHANGE: Caps = Caps::BPF.union(Caps::NET_ADMIN).union(Caps::PERFMON);
const PROCESS: Caps = Caps::BPF.union(Caps::NET_ADMIN).union(Caps::SYS_PTRACE).union(Caps::DAC_READ_SEARCH);
const NAMES: [(Caps, &str); 5] = [
    (Caps::BPF, "CAP_BPF"),
    (Caps::NET_ADMIN, "CAP_NET_ADMIN"),
    (Caps::PERFMON, "CAP_PERFMON"),
    (Caps::SYS_PTRACE, "CAP_SYS_PTRACE"),
    (Caps::DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"),
];

fn names(caps: Caps) -> Vec<&'static str> {
    NAMES.iter().filter(|(cap, _)| caps.contains(*cap)).map(|(_, name)| *name).collect()
}

#[test]
fn each_command_needs_exactly_what_the_table_says() {
    let Some(host) = Host::new() else { return };
    let _server = TcpServer::spawn("web", at("127.0.0.1:18093")).unwrap();
    let mut other = Command::new("socat");
    other.args(["TCP-LISTEN:18094,bind=127.0.0.1,fork,reuseaddr", "SYSTEM:echo"]);
    let mut other = Program::start(as_user(&mut other, 65534, 65534, &[])).unwrap();
    other.wait_listening(inlet_testkit::Proto::Tcp, at("127.0.0.1:18094"), crate::PATIENCE).unwrap();
    let pid = other.id().to_string();
    let cgroup = Cgroup::new().unwrap();
    let file = tempfile::NamedTempFile::with_suffix(".json").unwrap();
    std::fs::write(file.path(), r#"{"services": {"web": {}, "other": {}}, "rules": []}"#).unwrap();
    let file = file.path().to_str().unwrap();
    // In an order in which each has something to do.
    let table: &[(&str, &[&str], Caps)] = &[
        ("up", &["up"], CHANGE),
        ("service set", &["service", "set", "web"], CHANGE),
        ("bind", &["bind", "web", "tcp", "192.0.2.0/24", "80"], CHANGE),
        ("register --pid of another user's process", &["register", "web", "--pid", &pid], PROCESS),
        ("status", &["status"], Caps::empty()),
        ("rules", &["rules"], Caps::empty()),
        ("services", &["services"], Caps::empty()),
        ("listeners", &["listeners"], Caps::empty()),
        ("export", &["export"], Caps::empty()),
        ("explain", &["explain", "tcp", "192.0.2.1:80"], Caps::empty()),
        ("unregister", &["unregister", "web"], Caps::BPF.union(Caps::NET_ADMIN)),
        ("unbind", &["unbind", "tcp", "192.0.2.0/24", "80"], CHANGE),
        ("apply", &["apply", file], CHANGE),
        ("rollback", &["rollback"], CHANGE),
        ("adopt", &["adopt"], Caps::BPF.union(Caps::NET_ADMIN)),
        ("run", &["run", "web", "--", "true"], CHANGE),
        ("down", &["down"], Caps::NET_ADMIN),
    ];
    let mut rows = Vec::new();
    for (name, args, needed) in table {
        let run = |caps: Caps| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_inlet"));
            command.arg("--bpffs").arg(host.world.bpffs.path()).args(*args);
            // The root of the control groups has mode 0555, and `run` could make none in it.
            cgroup.contain(&mut command).unwrap();
            let ran = output(limit_caps(&mut command, caps)).unwrap();
            (ran.status.code(), String::from_utf8(ran.stderr).unwrap())
        };
        for (cap, missing) in NAMES.iter().filter(|(cap, _)| needed.contains(*cap)) {
            let (code, stderr) = run(*needed - *cap);
            assert!(code == Some(1) && stderr.contains(missing), "{name} without {missing}: {code:?} {stderr}");
        }
        let (code, stderr) = run(*needed);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{name}");
        let caps = names(*needed).iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        rows.push(format!("| `{name}` | {} |", if caps.is_empty() { "nothing" } else { &caps }));
    }
    let doc = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/access.md")).unwrap();
    let table = rows.join("\n");
    assert!(doc.contains(&table), "docs/access.md lacks this table:\n{table}");
}
