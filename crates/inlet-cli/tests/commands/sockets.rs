//! Commands that give sockets to services and take them out. The process that has them is this one.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;

use inlet_testkit::{Answer, Dial, TcpServer, dial_tcp, output, output_with};

use crate::{Host, at};

#[test]
fn sockets_come_and_go() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "any"]);
    let _server = TcpServer::spawn("web", at("127.0.0.1:8080")).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{}\n", std::process::id())).unwrap();
    let pidfile = file.path().to_str().unwrap();
    let register = ["register", "web", "--pidfile", pidfile, "--listen", "tcp:127.0.0.1:8080"];
    let said = host.ok(&register);
    assert!(said.starts_with("adopted  tcp:127.0.0.1:8080") && said.contains(", new\n"), "{said}");
    let said = host.json(&register);
    assert_eq!((&said["service"], &said["adopted"][0]["known"]), (&"web".into(), &true.into()));
    assert!(said["adopted"][0]["cookie"].is_u64());
    assert_eq!(dial_tcp(at("192.0.2.9:4711"), &Dial::new()).local(), Some(at("192.0.2.9:4711")));
    host.ok(&["service", "set", "other"]);
    let pid = std::process::id().to_string();
    host.fails(
        &["register", "other", "--pid", &pid, "--listen", "tcp:127.0.0.1:8080"],
        "socket tcp:127.0.0.1:8080 serves \"web\" already\nfix: inlet unregister web",
    );
    assert_eq!(host.ok(&["unregister", "web", "--pid", &pid]), "took 1 socket out of web\n");
    assert_eq!(host.json(&["unregister", "web"]), serde_json::json!({"service": "web", "unregistered": 0}));
    assert_eq!(dial_tcp(at("192.0.2.9:4711"), &Dial::new()), Answer::Refused);
}

#[test]
fn refused_sockets_are_named() {
    let Some(host) = Host::up() else { return };
    host.ok(&["service", "set", "dns"]);
    let _wanted = UdpSocket::bind("127.0.0.1:5300").unwrap();
    let connected = UdpSocket::bind("127.0.0.1:5301").unwrap();
    connected.connect("127.0.0.1:5302").unwrap();
    let listener = TcpListener::bind("127.0.0.1:5303").unwrap();
    let _connections: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect("127.0.0.1:5303").unwrap()).collect();
    drop(listener);
    let pid = std::process::id().to_string();
    let args = ["register", "dns", "--pid", &pid, "--listen", "udp:127.0.0.1:5300"];
    let said = host.ok(&args);
    assert!(said.contains("adopted  udp:127.0.0.1:5300"), "{said}");
    let line = said.lines().find(|line| line.contains("connected socket")).unwrap();
    assert!(line.starts_with("refused  ") && !said.contains("127.0.0.1:5301"), "{said}");
    let refused = host.json(&args)["refused"].clone();
    let connected = refused.as_array().unwrap().iter().filter(|socket| socket["reason"] == "connected").count();
    assert!(connected >= 1, "{refused}");
    host.fails(
        &["register", "dns", "--pid", &pid, "--listen", "udp:127.0.0.1:9"],
        &format!("process {pid} has no socket udp:127.0.0.1:9 for service \"dns\"; seen: "),
    );
    let _other = UdpSocket::bind("127.0.0.1:5304").unwrap();
    host.fails(&["register", "dns", "--pid", &pid], ": --listen udp:127.0.0.1:5300 --listen udp:127.0.0.1:5304");
    host.fails(&["register", "no-such", "--pid", &pid], "no service \"no-such\"");
    host.fails(&["register", "dns", "--pid", "4194304"], "process 4194304 does not exist");
    host.fails(&["register", "dns", "--systemd"], "no sockets from systemd: LISTEN_FDS is not set");
}

/// As systemd does it: the sockets are descriptors from 3 on, and two variables say how many and for whom.
#[test]
fn systemd_passes_sockets() {
    let Some(host) = Host::up() else { return };
    host.world.local("192.0.2.0/24").unwrap();
    host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "80"]);
    let server = TcpServer::spawn("web", at("127.0.0.1:8080")).unwrap();
    // From standard input to where systemd puts it.
    let script = r#"exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@""#;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_inlet"), "register", "web", "--systemd", "--bpffs"]);
    command.arg(host.world.bpffs.path());
    let ran = output_with(&mut command, rustix::io::fcntl_dupfd_cloexec(&server, 0).unwrap()).unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    let error = String::from_utf8(ran.stderr).unwrap();
    assert!(said.starts_with("adopted  tcp:127.0.0.1:8080"), "{said}{error}");
    assert_eq!(dial_tcp(at("192.0.2.9:80"), &Dial::new()).name(), Some("web"));
    let mut elsewhere = host.command(&["register", "web", "--systemd"]);
    let ran = output(elsewhere.env("LISTEN_FDS", "1").env("LISTEN_PID", "1")).unwrap();
    let error = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.code() == Some(1) && error.contains("they are for process 1"), "{error}");
}

/// Whoever takes the advice runs nothing but inlet, whatever the name of the service.
#[test]
fn advice_has_names_that_a_shell_does_nothing_with() {
    let Some(host) = Host::up() else { return };
    let name = "a$(touch /tmp/inlet-was-run)";
    let ran = host.run(&["unregister", name]);
    let advice = ran.stderr.lines().find_map(|line| line.strip_prefix("fix: ")).unwrap();
    assert_eq!(ran.stderr.lines().next(), Some("error: no service \"a$(touch /tmp/inlet-was-run)\""));
    let command = advice.rsplit_once("with: ").unwrap().1.strip_prefix("inlet ").unwrap();
    let script = format!("\"$INLET\" {command}");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).env("INLET", env!("CARGO_BIN_EXE_inlet")).env("INLET_BPFFS", host.world.bpffs.path());
    let advised = output(&mut shell).unwrap();
    assert!(advised.status.success(), "{script}: {advised:?}");
    assert!(!std::path::Path::new("/tmp/inlet-was-run").exists());
    assert_eq!(host.json(&["services"])[0]["name"], name);
}
