//! What happens at boot: a start where all is up already, a file that cannot be applied, and the last good ruleset.
//!
//! The last good ruleset is kept for the namespace of process 1 and in the usual places only. So each test has a process
//! 1, a namespace, a bpf filesystem and a /var/lib of its own, and is a script in them.

use std::process::Command;

use inlet_testkit::{output, require_root};

/// What each script begins with: `host WORD` and `file WORD` are rulesets with one rule for the service WORD.
const BEFORE: &str = r#"
set -eu
mount -t bpf bpf /sys/fs/bpf
mkdir -p /var/lib
mount -t tmpfs -o mode=0755 lib /var/lib
mount -t tmpfs -o mode=0755 etc "$DIR"
cd "$DIR"
mkdir /var/lib/inlet
ip link set lo up
inlet() { "$INLET" "$@"; }
file() { printf 'rules = [{ to = "%s", protocol = "tcp", local = "192.0.2.0/24", ports = 80 }]\nservices.%s = {}\n' "$1" "$1"; }
in_force() { inlet services 2>/dev/null | awk 'NR > 1 { print $1 }' | paste -sd' '; }
kept() { grep -oE '"(web|dns)"' /var/lib/inlet/last-good.json | sort -u | tr -d '"' | paste -sd' '; }
# ends STATUS COMMAND...: the command ends with this status, and what it says is in the file said.
ends() {
    expected=$1; shift
    status=0; "$@" >said 2>&1 || status=$?
    [ "$status" = "$expected" ] || { echo "status $status, not $expected: $*"; cat said; exit 1; }
}
is() { [ "$1" = "$2" ] || { echo "found: $1"; echo "wanted: $2"; exit 1; }; }
says() { grep -qF -- "$1" said || { echo "not said: $1"; cat said; exit 1; }; }
"#;

fn runs(script: &str) {
    if !require_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child", "sh", "-c"]);
    command.arg(format!("{BEFORE}{script}")).env("DIR", dir.path()).env("INLET", env!("CARGO_BIN_EXE_inlet"));
    command.env_remove("INLET_BPFFS");
    let output = output(&mut command).unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", said(&output.stdout), said(&output.stderr));
}

#[test]
fn a_start_is_for_what_is_up_too() {
    runs(
        r#"
        file web >web.toml
        ends 0 inlet apply --up web.toml
        is "$(in_force)" web
        # Once more, and with another ruleset: no start takes away what is in force.
        ends 0 inlet up
        is "$(in_force)" web
        file dns >dns.toml
        ends 0 inlet apply --up dns.toml
        is "$(in_force)" dns
        is "$(inlet status --json | grep -o '"generation": *[0-9]*' | head -1 | tr -dc 0-9)" 3
    "#,
    );
}

#[test]
fn a_bad_file_at_boot_leaves_the_last_good_ruleset_in_force() {
    runs(
        r#"
        mkdir rules.d
        echo 'include = "rules.d"' >inlet.toml
        file web >rules.d/web.toml
        file dns | sed 's/tcp/udp/' >rules.d/dns.toml
        ends 0 inlet apply --up inlet.toml
        is "$(in_force)" "dns web"
        inlet export >good.json
        cmp good.json /var/lib/inlet/last-good.json

        # A bad file among good ones: all is told, and the rules stay.
        echo 'rules = [{ to = "wbe" }]' >rules.d/bad.toml
        ends 1 inlet apply --later inlet.toml
        says rules.d/bad.toml:1
        is "$(in_force)" "dns web"

        # The machine boots again with it.
        inlet down >/dev/null
        ends 1 inlet apply --up --later inlet.toml
        says rules.d/bad.toml:1
        says 'note: the last good ruleset is in force: /var/lib/inlet/last-good.json (generation 2)'
        inlet export | cmp - good.json
        # A start of the unit once more changes nothing, and says the same of the file only.
        ends 1 inlet apply --up --later inlet.toml
        inlet export | cmp - good.json
        rm rules.d/bad.toml

        # Nor does a file that is not there.
        inlet down >/dev/null
        ends 1 inlet apply --up none.toml
        says 'cannot read none.toml'
        is "$(in_force)" "dns web"

        # Without a last good one there are no rules, and this is said.
        inlet down >/dev/null
        rm /var/lib/inlet/last-good.json
        ends 1 inlet apply --up none.toml
        says 'note: no ruleset is in force: there is no last good one'
        is "$(in_force)" ""
        # Nor with one that is damaged.
        inlet down >/dev/null
        echo '{' >/var/lib/inlet/last-good.json
        ends 1 inlet apply --up none.toml
        says 'note: no ruleset is in force: '
    "#,
    );
}

#[test]
fn a_ruleset_is_good_once_it_is_confirmed() {
    runs(
        r#"
        file web >web.toml; file dns >dns.toml
        inlet apply --up web.toml >/dev/null 2>&1
        is "$(kept)" web
        ends 0 inlet apply --confirm 600 dns.toml
        is "$(in_force) $(kept)" "dns web"
        ends 0 inlet confirm
        is "$(kept)" dns
        ends 0 inlet rollback
        is "$(kept)" web
        # What is tried out is not kept, nor what belongs to a namespace without a name or to another bpf filesystem.
        ends 0 inlet bind ssh tcp 192.0.2.0/24 22
        is "$(kept)" web
        unshare --net "$INLET" apply --up dns.toml >/dev/null 2>&1
        is "$(kept)" web
        mkdir bpf; mount -t bpf bpf bpf
        inlet --bpffs bpf apply --up dns.toml >/dev/null 2>&1
        is "$(kept)" web
        # One that `ip netns` names has a file of its own.
        mount -t tmpfs run /run
        ip netns add blue
        ends 0 inlet apply --netns blue --up dns.toml
        is "$(kept)" web
        is "$(ls /var/lib/inlet | paste -sd' ')" "last-good-blue.json last-good.json"
    "#,
    );
}

#[test]
fn what_cannot_be_kept_is_told() {
    runs(
        r#"
        file web >web.toml; file dns >dns.toml
        inlet apply --up web.toml >/dev/null 2>&1
        mount -t tmpfs -o size=4k full /var/lib/inlet
        head -c 4000 /dev/zero >/var/lib/inlet/filled
        ends 3 inlet apply dns.toml
        says 'error: the ruleset is in force, but it is not kept for the next boot: cannot write /var/lib/inlet/last-good.json: No space'
        says 'fix: '
        is "$(in_force)" dns
        is "$(ls /var/lib/inlet)" filled
        umount /var/lib/inlet
        is "$(kept)" web
        mount --bind /var/lib/inlet /var/lib/inlet
        mount -o remount,bind,ro /var/lib/inlet
        ends 3 inlet apply --up dns.toml
        says 'Read-only file system'
        is "$(in_force)" dns
        # Where nothing is kept, nothing has to be said.
        umount /var/lib/inlet
        rm -r /var/lib/inlet
        ends 0 inlet apply dns.toml
    "#,
    );
}

#[test]
fn a_host_without_its_file_systems_is_told() {
    runs(
        r#"
        while umount /sys/fs/bpf 2>/dev/null; do :; done
        file web >web.toml
        for command in up down status "apply --up web.toml"; do
            ends 1 inlet $command
            says 'error: no bpf filesystem at /sys/fs/bpf'
            says 'fix: mount -t bpf -o mode=0755 bpf /sys/fs/bpf'
        done
        is "$(ls /var/lib/inlet)" ""
        # What it says, typed.
        mount -t bpf -o mode=0755 bpf /sys/fs/bpf
        ends 0 inlet apply --up web.toml
        is "$(in_force)" web

        # Descriptions need the control groups, rules do not. What cannot be had leaves the rules as they are.
        for dir in $(awk '$0 ~ / - cgroup2 / { print $5 }' /proc/self/mountinfo | sort -r); do umount -l "$dir"; done
        file dns | sed 's/dns = {}/dns = { listen = "tcp:127.0.0.1:8080" }/' >dns.toml
        ends 1 inlet apply --up --later dns.toml
        says 'cgroup v2'
        says 'fix: mount -t cgroup2 none /sys/fs/cgroup'
        is "$(in_force)" web
        inlet down >/dev/null
        ends 1 inlet apply --up --later dns.toml
        says 'note: the last good ruleset is in force: /var/lib/inlet/last-good.json'
        is "$(in_force)" web
        [ -d /sys/fs/cgroup ] || mount -t tmpfs cgroups /sys/fs/cgroup
        mount -t cgroup2 none /sys/fs/cgroup
        ends 0 inlet apply --up --later dns.toml
        is "$(in_force)" dns
    "#,
    );
}
