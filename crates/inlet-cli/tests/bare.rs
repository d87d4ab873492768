//! What needs no root: completions, and what bad input gets before the kernel is asked.

// clippy.toml allows this in test functions; these are what they call.
#![allow(clippy::unwrap_used)]

#[path = "common/ran.rs"]
mod ran;

use crate::ran::inlet;

#[test]
fn completions_are_written() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = inlet(&["completions", shell]);
        assert_eq!(ran.code, Some(0));
        assert!(ran.stdout.contains("unregister"), "{shell}");
    }
}

/// Bad usage ends with 2 and one line, unless it is the shape that is wrong: then usage and a hint follow.
#[test]
fn bad_usage() {
    let long = "x".repeat(256);
    let table: &[(&[&str], &str)] = &[
        (
            &["bind", "web", "tcp", "192.0.2.7/24", "80"],
            "<PREFIX>: 192.0.2.7/24 has host bits set; the prefix is 192.0.2.0/24",
        ),
        (&["unbind", "tcp", "2001:db8::1/64", "80"], "2001:db8::1/64 has host bits set; the prefix is 2001:db8::/64"),
        (&["bind", "web", "tcp", "::ffff:192.0.2.0/120", "80"], "which no packet carries; write 192.0.2.0/24"),
        (&["bind", "web", "tcp", "nowhere", "80"], "\"nowhere\" is not a prefix; write it like"),
        (&["bind", "web", "tcp", "192.0.2.0/24", "0"], "<PORTS>: port 0 cannot be matched"),
        (&["bind", "web", "tcp", "192.0.2.0/24", "443-80"], "port range 443-80 is reversed; write 80-443"),
        (&["bind", "web", "tcp", "192.0.2.0/24", ""], "no port given; write 80"),
        (&["bind", "web", "tcp", "192.0.2.0/24", "80,"], "no port given; write 80"),
        (&["bind", "web", "tcp", "192.0.2.0/24", "http"], "\"http\" is not a port"),
        (&["bind", "web", "sctp", "192.0.2.0/24", "80"], "<PROTOCOL>: unknown protocol \"sctp\"; write tcp or udp"),
        (&["unbind", "sctp", "192.0.2.0/24", "80"], "unknown protocol \"sctp\"; write tcp or udp"),
        (&["rules", "sctp"], "unknown protocol \"sctp\"; write tcp, udp or any"),
        (&["rules", "tcp", "192.0.2.7/24"], "the prefix is 192.0.2.0/24"),
        (&["rules", "any", "any", "0"], "port 0 cannot be matched"),
        (&["bind", "", "tcp", "192.0.2.0/24", "80"], "<SERVICE>: service name is empty; give it 1 to 255 bytes"),
        (&["bind", &long, "tcp", "192.0.2.0/24", "80"], "service name is 256 bytes long; at most 255 fit"),
        (&["bind", "a\x1bb", "tcp", "192.0.2.0/24", "80"], "service name \"a\\u{1b}b\" has a control character"),
        (&["service", "set", ""], "service name is empty"),
        (&["service", "rm", "a\nb"], "service name \"a\\nb\" has a control character"),
        (
            &["service", "set", "web", "--on-missing", "drop"],
            "unknown on-missing policy \"drop\"; write refuse or pass",
        ),
        (
            &["bind", "web", "tcp", "192.0.2.0/24", "80", "--from", "10.0.0.1/8"],
            "--from <CIDR>: 10.0.0.1/8 has host bits set",
        ),
        (&["bind", "web", "tcp", "192.0.2.0/24", "80", "--iface", "a/b"], "\"a/b\" is not an interface name"),
        (&["register", "web", "--pid", "1", "--listen", "127.0.0.1"], "write tcp:127.0.0.1:8080 or udp:[::1]:53"),
        (&["register", "web", "--pid", "1", "--listen", "sctp:127.0.0.1:1"], "unknown protocol \"sctp\""),
        (&["register", "web", "--pid", "0"], "0 is not in 1.."),
        (&["apply", "--confirm", "0", "-"], "0 is not in 1..=604800"),
        (&["up", "--max-sockets", "0"], "0 is not in 1..=1048576"),
        (&["explain", "tcp", "192.0.2.7"], "<DST:PORT>: \"192.0.2.7\" is not an address and a port"),
        (&["explain", "tcp", "[::ffff:192.0.2.7]:80"], "no packet carries; write 192.0.2.7:80"),
        (&["explain", "tcp", "192.0.2.7:0"], "no packet goes to port 0"),
        (&["explain", "tcp", "192.0.2.7:80", "--from", "[2001:db8::1]:1"], "of two families"),
    ];
    for (args, text) in table {
        let ran = inlet(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{args:?}: {}", ran.stderr);
        // The message, and the next step on a line of its own.
        assert!(ran.stderr.replace("\nfix: ", "; ").contains(text), "{args:?}: {}", ran.stderr);
        let lines: Vec<&str> = ran.stderr.lines().collect();
        assert!(lines[0].starts_with("error: ") && lines.len() <= 2, "{args:?}: {}", ran.stderr);
        assert!(lines.get(1).is_none_or(|line| line.starts_with("fix: ")), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn bad_shapes() {
    let table: &[(&[&str], &str)] = &[
        (&[], "Usage: inlet"),
        (&["frob"], "unrecognized subcommand 'frob'"),
        (&["bind", "web", "tcp"], "required arguments were not provided"),
        (
            &["bind", "tcp", "192.0.2.0/24", "80"],
            "give a service, a protocol, a prefix and ports, or --to, --pass or --refuse",
        ),
        (&["bind", "--pass", "web", "tcp", "192.0.2.0/24", "80"], "--pass and --refuse take no service"),
        (&["bind", "--pass", "--refuse", "tcp", "192.0.2.0/24", "80"], "cannot be used with '--refuse'"),
        (&["register", "web"], "--pid <PID>|--pidfile <FILE>|--systemd"),
        (&["register", "web", "--pid", "1", "--systemd"], "cannot be used with '--systemd'"),
        (&["completions", "csh"], "[possible values: bash, zsh, fish]"),
    ];
    for (args, text) in table {
        let ran = inlet(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(text), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn what_fails_at_run_time_ends_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("words"), "not a number\n").unwrap();
    std::fs::write(path("zero"), "0").unwrap();
    let (words, zero, none) = (path("words"), path("zero"), path("none"));
    let no_bpffs = "error: no bpf filesystem at /proc\nfix: mount -t bpf -o mode=0755 bpf /proc\n";
    let table: &[(&[&str], &str)] = &[
        (&["up"], no_bpffs),
        (&["down"], no_bpffs),
        (&["status"], no_bpffs),
        (&["--json", "rules"], no_bpffs),
        (&["bind", "web", "tcp", "192.0.2.0/24", "80"], no_bpffs),
        (&["--bpffs", "/nowhere", "status"], "no bpf filesystem at /nowhere"),
        (&["--netns", "inlet-no-such", "status"], "network namespace inlet-no-such: No such file or directory"),
        (&["--netns", "pid:x", "status"], "give a path, a name that `ip netns` lists, or pid:N"),
        (&["apply", &none], "cannot read "),
        (&["register", "web", "--pidfile", &none], "cannot open "),
        (&["register", "web", "--pidfile", &words], "it does not hold the number of a process"),
        (&["register", "web", "--pidfile", &zero], "it does not hold the number of a process"),
    ];
    for (args, text) in table {
        let ran = inlet(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(text), "{args:?}: {}", ran.stderr);
        let lines: Vec<&str> = ran.stderr.lines().collect();
        assert!(lines[0].starts_with("error: ") && lines.len() <= 2, "{args:?}: {}", ran.stderr);
        assert!(lines.get(1).is_none_or(|line| line.starts_with("fix: ")), "{args:?}: {}", ran.stderr);
    }
}
