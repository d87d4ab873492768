//! The table: groups of commands, and of each command its examples, exit statuses and what to read next.

use super::{Entry, Group};

/// Each command is in one group.
pub(super) const GROUPS: [Group; 6] = [
    Group { title: "Instance", commands: &["up", "down", "list", "gc"] },
    Group { title: "Rules", commands: &["bind", "unbind"] },
    Group {
        title: "Services and sockets",
        commands: &["service", "register", "unregister", "drain", "adopt", "watch", "run", "grantd"],
    },
    Group { title: "Whole rulesets", commands: &["plan", "apply", "confirm", "rollback", "export", "import"] },
    Group { title: "Looking", commands: &["status", "services", "rules", "listeners", "explain", "check"] },
    Group { title: "Shell and manual", commands: &["completions", "man", "help"] },
];

const DONE: (&str, &str) = ("0", "done");
const FAILED: (&str, &str) = ("1", "failed; standard error says why");
const USAGE: (&str, &str) = ("2", "the arguments are wrong; nothing was done");
const USUAL: &[(&str, &str)] = &[DONE, FAILED, USAGE];
const KEPT: &[(&str, &str)] =
    &[DONE, FAILED, USAGE, ("3", "the ruleset is in force, but it cannot be kept for the next boot")];
const WOULD_CHANGE: (&str, &str) = ("3", "with --dry-run: something would change");
const IMPORTED: &[(&str, &str)] =
    &[DONE, FAILED, USAGE, ("3", "written, but a part could not be translated; standard error lists it")];

/// All commands that people see, and `inlet` itself.
pub(super) const COMMANDS: &[Entry] = &[
    Entry {
        name: "",
        examples: &[
            ("Start Inlet", "inlet up"),
            ("All ports of a network go to the service web", "inlet bind web tcp 192.0.2.0/24 any"),
            ("The sockets of process 4711 receive them", "inlet register web --pid 4711"),
            ("Who receives a connection to port 443?", "inlet explain tcp 192.0.2.7:443"),
        ],
        statuses: &[DONE, FAILED, USAGE, ("3", "done, and there is something to look at (plan, --dry-run, import)")],
        see_also: &["inlet.toml(5)", "ip-route(8)", "ip-netns(8)", "ss(8)"],
    },
    Entry {
        name: "up",
        examples: &[
            ("Start Inlet", "inlet up"),
            ("Let the group netops look without root", "inlet up --group netops"),
            ("Start it in the namespace that ip-netns calls blue", "inlet up --netns blue"),
            ("Take over what an earlier version made, everywhere", "inlet up --all"),
        ],
        statuses: USUAL,
        see_also: &["inlet-down(1)", "inlet-list(1)", "inlet-status(1)"],
    },
    Entry {
        name: "down",
        examples: &[("Stop Inlet", "inlet down"), ("Stop it everywhere", "inlet down --all")],
        statuses: USUAL,
        see_also: &["inlet-up(1)", "inlet-list(1)"],
    },
    Entry {
        name: "list",
        examples: &[
            ("Where is Inlet up?", "inlet list"),
            ("Also what is left of namespaces that have ended, and of interrupted commands", "inlet list --all"),
        ],
        statuses: USUAL,
        see_also: &["inlet-gc(1)", "inlet-status(1)", "ip-netns(8)"],
    },
    Entry {
        name: "gc",
        examples: &[("Remove what ended namespaces and interrupted commands left", "inlet gc")],
        statuses: USUAL,
        see_also: &["inlet-list(1)", "inlet-down(1)"],
    },
    Entry {
        name: "bind",
        examples: &[
            ("Two ports of a network for the service web", "inlet bind web tcp 192.0.2.0/24 80,443"),
            ("All ports, but only from one source", "inlet bind proxy udp 2001:db8::/64 any --from 2001:db8:1::/48"),
            (
                "For the sockets at one address, without a service first",
                "inlet bind --to tcp:127.0.0.1:8080 tcp 192.0.2.0/24 80",
            ),
            ("Leave port 22 to the kernel", "inlet bind --pass tcp 192.0.2.0/24 22"),
            ("What would this rule change?", "inlet bind proxy tcp 192.0.2.0/24 any --dry-run"),
        ],
        statuses: &[DONE, FAILED, USAGE, WOULD_CHANGE],
        see_also: &["inlet-unbind(1)", "inlet-rules(1)", "inlet-service-set(1)", "inlet-apply(1)"],
    },
    Entry {
        name: "unbind",
        examples: &[("Remove one rule", "inlet unbind tcp 192.0.2.0/24 80")],
        statuses: &[DONE, FAILED, USAGE, WOULD_CHANGE],
        see_also: &["inlet-bind(1)", "inlet-rules(1)"],
    },
    Entry {
        name: "service",
        examples: &[
            ("The listener at one address serves web", "inlet service set web --listen tcp:127.0.0.1:8080"),
            ("Remove the service", "inlet service rm web"),
        ],
        statuses: USUAL,
        see_also: &["inlet-register(1)", "inlet-services(1)"],
    },
    Entry {
        name: "service set",
        examples: &[
            ("The listener at one address serves web", "inlet service set web --listen tcp:127.0.0.1:8080"),
            ("Port 53 of a systemd unit", "inlet service set dns --listen udp:*:53 --unit unbound.service"),
            ("Leave packets to the kernel while web is down", "inlet service set web --on-missing pass"),
            (
                "A UDP flow stays on its socket until it was silent for two minutes",
                "inlet service set quic --sticky 120",
            ),
        ],
        statuses: &[DONE, FAILED, USAGE, WOULD_CHANGE],
        see_also: &["inlet-adopt(1)", "inlet-watch(1)", "inlet-register(1)", "inlet-status(1)"],
    },
    Entry {
        name: "service rm",
        examples: &[("Remove the service web", "inlet service rm web")],
        statuses: USUAL,
        see_also: &["inlet-unbind(1)", "inlet-services(1)"],
    },
    Entry {
        name: "register",
        examples: &[
            ("One listener of process 4711", "inlet register web --pid 4711 --listen tcp:127.0.0.1:8080"),
            ("In ExecStartPost= of a socket unit", "inlet register web --systemd"),
        ],
        statuses: USUAL,
        see_also: &["inlet-unregister(1)", "inlet-service-set(1)", "systemd.socket(5)"],
    },
    Entry {
        name: "unregister",
        examples: &[
            ("The old server gets no new connections", "inlet unregister web --pid 4711"),
            ("Take out all sockets", "inlet unregister web"),
        ],
        statuses: USUAL,
        see_also: &["inlet-register(1)"],
    },
    Entry {
        name: "drain",
        examples: &[("The old server finishes what it has", "inlet drain quic --pid 4711 --timeout 300")],
        statuses: &[("0", "nothing is left"), FAILED, USAGE, ("3", "the time is up, and something is left")],
        see_also: &["inlet-register(1)", "inlet-unregister(1)", "inlet-service-set(1)"],
    },
    Entry {
        name: "adopt",
        examples: &[("Find the sockets of one service", "inlet adopt dns")],
        statuses: &[DONE, ("1", "failed, or a socket that was found cannot be adopted"), USAGE],
        see_also: &["inlet-service-set(1)", "inlet-watch(1)"],
    },
    Entry {
        name: "watch",
        examples: &[("Adopt UDP sockets as programs bind them", "inlet watch")],
        statuses: &[("1", "failed, or the instance is gone"), USAGE],
        see_also: &["inlet-adopt(1)", "inlet-service-set(1)"],
    },
    Entry {
        name: "grantd",
        examples: &[(
            "Answer callers; with systemd enable inlet-grantd.socket",
            "inlet grantd --socket /run/inlet/grantd.sock",
        )],
        statuses: USUAL,
        see_also: &["inlet-register(1)", "inlet-bind(1)", "inlet.toml(5)"],
    },
    Entry {
        name: "run",
        examples: &[
            ("All TCP listeners of a command serve web", "inlet run web -- python3 -m http.server 8080"),
            ("Only its UDP socket at port 53", "inlet run dns --listen udp:*:53 -- dnsmasq --keep-in-foreground"),
        ],
        statuses: &[
            ("1", "the command was not started; otherwise the status is the command's own"),
            USAGE,
            ("128+N", "signal N ended the command"),
        ],
        see_also: &["inlet-service-set(1)"],
    },
    Entry {
        name: "plan",
        examples: &[("What would this file change?", "inlet plan inlet.toml")],
        statuses: &[("0", "the file changes nothing"), FAILED, USAGE, ("3", "the file changes something")],
        see_also: &["inlet-apply(1)", "inlet-check(1)", "inlet.toml(5)"],
    },
    Entry {
        name: "apply",
        examples: &[
            ("Put a file in force", "inlet apply inlet.toml"),
            ("Go back after a minute, unless confirmed", "inlet apply inlet.toml --confirm 60"),
            ("At boot", "inlet apply --up --later /etc/inlet/inlet.toml"),
        ],
        statuses: KEPT,
        see_also: &["inlet-plan(1)", "inlet-confirm(1)", "inlet-rollback(1)", "inlet-export(1)", "inlet.toml(5)"],
    },
    Entry {
        name: "confirm",
        examples: &[("Keep the new ruleset", "inlet confirm")],
        statuses: KEPT,
        see_also: &["inlet-apply(1)", "inlet-rollback(1)"],
    },
    Entry {
        name: "rollback",
        examples: &[("Go back to the previous ruleset", "inlet rollback")],
        statuses: KEPT,
        see_also: &["inlet-apply(1)", "inlet-confirm(1)"],
    },
    Entry {
        name: "export",
        examples: &[("Save the ruleset as a file", "inlet export --toml > inlet.toml")],
        statuses: USUAL,
        see_also: &["inlet-apply(1)", "inlet.toml(5)"],
    },
    Entry {
        name: "import",
        examples: &[("From nftables", "nft -j list ruleset | inlet import tproxy > new.toml")],
        statuses: IMPORTED,
        see_also: &["inlet-plan(1)", "inlet-apply(1)", "inlet.toml(5)"],
    },
    Entry {
        name: "import tubular",
        examples: &[("From the bindings of tubular", "inlet import tubular bindings.json > new.toml")],
        statuses: IMPORTED,
        see_also: &["inlet-register(1)", "inlet-plan(1)", "inlet.toml(5)"],
    },
    Entry {
        name: "import tproxy",
        examples: &[
            ("From iptables", "(iptables-save; ip6tables-save; ipset save) | inlet import tproxy > new.toml"),
            ("From nftables", "nft -j list ruleset | inlet import tproxy > new.toml"),
        ],
        statuses: IMPORTED,
        see_also: &["inlet-plan(1)", "inlet.toml(5)", "iptables-save(8)", "nft(8)"],
    },
    Entry {
        name: "import ss",
        examples: &[("What receives on this host today", "inlet import ss > first.toml")],
        statuses: IMPORTED,
        see_also: &["inlet-listeners(1)", "inlet-plan(1)", "inlet.toml(5)", "ss(8)"],
    },
    Entry {
        name: "status",
        examples: &[("What runs, and who has which sockets?", "inlet status")],
        statuses: USUAL,
        see_also: &["inlet-services(1)", "inlet-check(1)"],
    },
    Entry {
        name: "services",
        examples: &[("One line for each service", "inlet services")],
        statuses: USUAL,
        see_also: &["inlet-status(1)", "inlet-service-set(1)"],
    },
    Entry {
        name: "rules",
        examples: &[
            ("All rules", "inlet rules"),
            ("Those that concern one address and port", "inlet rules tcp 192.0.2.7 443"),
        ],
        statuses: USUAL,
        see_also: &["inlet-bind(1)", "inlet-explain(1)"],
    },
    Entry {
        name: "listeners",
        examples: &[("What does each socket receive?", "inlet listeners")],
        statuses: USUAL,
        see_also: &["inlet-explain(1)", "inlet-check(1)", "ss(8)"],
    },
    Entry {
        name: "explain",
        examples: &[
            ("Who receives a connection to this port?", "inlet explain tcp 192.0.2.7:443"),
            (
                "The same for one source and interface",
                "inlet explain tcp 192.0.2.7:443 --from 203.0.113.5:1024 --iface eth0",
            ),
            ("As it would be with a file", "inlet explain udp [2001:db8::7]:53 --file inlet.toml"),
        ],
        statuses: &[DONE, ("1", "failed, or the program in the kernel disagrees with the rules"), USAGE],
        see_also: &["inlet-rules(1)", "inlet-listeners(1)", "ip-route(8)"],
    },
    Entry {
        name: "check",
        examples: &[
            ("Is all well?", "inlet check"),
            ("Would it be with this file?", "inlet check inlet.toml"),
            ("For a timer: is this file in force, and all well?", "inlet check --quiet --in-force inlet.toml"),
            ("Without what is known", "inlet check --ignore rp-filter --ignore udp-fionread"),
        ],
        statuses: &[
            ("0", "no finding is an error"),
            ("1", "a finding is an error, such as that Inlet is not up; or the check failed"),
            USAGE,
        ],
        see_also: &["inlet-status(1)", "inlet-listeners(1)", "inlet-plan(1)"],
    },
    Entry {
        name: "completions",
        examples: &[("For bash", "inlet completions bash > /etc/bash_completion.d/inlet")],
        statuses: USUAL,
        see_also: &[],
    },
    Entry {
        name: "man",
        examples: &[("Install the man pages", "inlet man /usr/local/share/man")],
        statuses: USUAL,
        see_also: &["man(1)"],
    },
];
