//! How servers of several tests are started: one configuration of each, in the foreground, with what differs as arguments.

use std::fs;
use std::path::Path;
use std::process::Command;

/// nginx with two workers and these lines in its one server.
pub(crate) fn nginx(dir: &Path, server: &str) -> Command {
    let path = dir.display();
    let conf = format!(
        "user root; daemon off; pid {path}/pid; error_log stderr warn; worker_processes 2;
        events {{ worker_connections 512; }}
        http {{
            access_log off;
            client_body_temp_path {path}/body; proxy_temp_path {path}/proxy; fastcgi_temp_path {path}/fastcgi;
            uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;
            server {{ {server} }}
        }}"
    );
    command("nginx", &["-e", "stderr", "-c"], dir, "nginx.conf", &conf)
}

/// haproxy with a master, two threads and these lines in its one frontend.
pub(crate) fn haproxy(dir: &Path, frontend: &str) -> Command {
    let conf = format!(
        "global
            nbthread 2
            hard-stop-after 10s
        defaults
            mode http
            timeout client 10s
            timeout connect 10s
            timeout server 10s
        frontend web
            {frontend}\n"
    );
    command("haproxy", &["-W", "-db", "-f"], dir, "haproxy.cfg", &conf)
}

/// dnsmasq at a port, with this text for `who.example`. Without more arguments it is bound to all addresses.
pub(crate) fn dnsmasq(port: u16, text: &str, args: &[&str]) -> Command {
    let mut command = Command::new("dnsmasq");
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root"]);
    command.args(["--pid-file=", "--log-facility=-", &format!("--port={port}")]).args(args);
    command.arg(format!("--txt-record=who.example,{text}"));
    command
}

/// unbound with these lines about its sockets, and this text for `who.example`.
pub(crate) fn unbound(dir: &Path, text: &str, sockets: &str) -> Command {
    let path = dir.display();
    let conf = format!(
        "server:
            username: \"\"
            chroot: \"\"
            directory: \"{path}\"
            pidfile: \"\"
            use-syslog: no
            {sockets}
            access-control: 0.0.0.0/0 allow
            access-control: ::/0 allow
            local-zone: \".\" refuse
            local-data: \"who.example. 0 IN TXT {text}\"
        remote-control:
            control-enable: no\n"
    );
    command("unbound", &["-d", "-p", "-c"], dir, "unbound.conf", &conf)
}

/// A command whose last argument is the file with its configuration.
pub(crate) fn command(program: &str, args: &[&str], dir: &Path, name: &str, conf: &str) -> Command {
    let path = dir.join(name);
    fs::write(&path, conf).unwrap();
    let mut command = Command::new(program);
    command.args(args).arg(path);
    command
}
