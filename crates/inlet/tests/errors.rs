//! What each thing that can be wrong with an instance is called, what the message advises, and that the advice helps.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use common::bpf::{detach, namespace_of, passing, usurp};
use common::{
    Receiver, asked, at, bind, here, open, selector, snapshot, source, to, told, tree, tree_of_one, up,
    wait_for_sockets,
};
use inlet::rules::{Packet, Protocol::Tcp};
use inlet::{
    Agreement, ApplyOptions, CommitError, CommitOptions, Error, Instance, KernelError, Location, Netns, ServiceRequest,
    Snapshot, StateError, Unasked, UpOptions,
};
use inlet_testkit::{Caps, World, require, with_caps, without_caps};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Every way to open an instance.
fn openings(world: &World) -> Vec<Error> {
    vec![Instance::open(here(world)).unwrap_err(), Snapshot::open(here(world)).unwrap_err()]
}

fn up_again(world: &World) -> Error {
    Instance::up(here(world), &UpOptions::default()).unwrap_err()
}

#[test]
fn not_up_and_already_up() {
    let Some(world) = World::new() else { return };
    for error in openings(&world).into_iter().chain([Instance::down(&here(&world)).unwrap_err()]) {
        assert_eq!(told(&error), "inlet is not up in this network namespace\nfix: inlet up");
    }
    bind(&mut up(&world), "web", Tcp, "192.0.2.0/24", "80");
    let error = up_again(&world);
    assert_eq!(told(&error), "inlet is already up in this network namespace\nfix: look at it with: inlet status");
    assert_eq!(snapshot(&world).ruleset().len(), 1);
    Instance::down(&here(&world)).unwrap();
    assert!(matches!(
        openings(&world)[..],
        [Error::State(StateError::NotUp { .. }), Error::State(StateError::NotUp { .. })]
    ));
}

#[test]
fn no_bpf_filesystem() {
    let Some(_world) = World::new() else { return };
    for path in ["/proc", "/nowhere/at/all"] {
        let location = || Location::new(path, Netns::own().unwrap());
        let errors = [
            Instance::up(location(), &UpOptions::default()).unwrap_err(),
            Instance::open(location()).unwrap_err(),
            Snapshot::open(location()).unwrap_err(),
            Instance::down(&location()).unwrap_err(),
        ];
        for error in errors {
            let expected = format!("no bpf filesystem at {path}\nfix: mount -t bpf -o mode=0755 bpf {path}");
            assert_eq!(told(&error), expected);
        }
    }
}

#[test]
fn a_namespace_that_is_not_there() {
    let Some(_world) = World::new() else { return };
    for spec in ["no-such-namespace", "/no/such/file", "pid:0", "pid:x", "/proc/self/status"] {
        let error = Netns::open(spec).unwrap_err();
        assert!(matches!(error, Error::Kernel(KernelError::Netns { .. })), "{error:?}");
        assert!(error.to_string().starts_with(&format!("network namespace {spec}: ")), "{error}");
    }
}

#[test]
fn missing_capabilities_are_named() {
    let Some(world) = World::new() else { return };
    let missing = |error: Error| match error {
        Error::Kernel(KernelError::Capability { missing, .. }) => missing,
        other => panic!("{other:?}"),
    };
    let without = |caps| without_caps(caps, || missing(up_again(&world)));
    assert_eq!(without(Caps::BPF | Caps::SYS_ADMIN), "CAP_BPF");
    assert_eq!(without(Caps::NET_ADMIN), "CAP_NET_ADMIN");
    assert_eq!(without(Caps::PERFMON | Caps::SYS_ADMIN), "CAP_PERFMON");
    assert_eq!(with_caps(Caps::empty(), || missing(up_again(&world))), "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON");
    assert_eq!(tree(world.bpffs.path()), [""; 0], "nothing was begun");

    drop(up(&world));
    let open_error = || missing(Instance::open(here(&world)).unwrap_err());
    assert_eq!(with_caps(Caps::NET_ADMIN, open_error), "CAP_BPF");
    assert_eq!(without_caps(Caps::NET_ADMIN, || missing(Instance::down(&here(&world)).unwrap_err())), "CAP_NET_ADMIN");
    // Only a commit loads a program.
    with_caps(Caps::BPF | Caps::NET_ADMIN, || {
        let error = open(&world).bind(&to("web"), &selector(Tcp, "192.0.2.0/24", "80")).unwrap_err();
        assert_eq!(
            told(&error),
            "changing the rules needs CAP_PERFMON\nfix: run it as root or with these capabilities"
        );
    });
    assert_eq!(tree(world.bpffs.path()), tree_of_one(&world, 1));
}

#[test]
fn three_capabilities_are_enough() {
    let Some(world) = World::new() else { return };
    world.local("192.0.2.0/24").unwrap();
    world.local("2001:db8::/64").unwrap();
    with_caps(Caps::BPF | Caps::NET_ADMIN | Caps::PERFMON, || {
        let mut instance = up(&world);
        bind(&mut instance, "web", Tcp, "192.0.2.0/24", "80");
        bind(&mut instance, "web", Tcp, "2001:db8::/64", "1-1023");
        let from = Some("10.0.0.0/8".parse().unwrap());
        let sourced = inlet::rules::Selector { source: from, ..selector(Tcp, "192.0.2.0/24", "80") };
        instance.bind(&to("other"), &sourced).unwrap();
        let _receiver = Receiver::of(&mut instance, "web");
        drop(instance);
        assert_eq!(asked(Tcp, "192.0.2.9:80"), "web");
        assert_eq!(asked(Tcp, "[2001:db8::9]:80"), "web");
        let packet = Packet::new(Tcp, "192.0.2.9:80".parse().unwrap(), "192.0.2.8:9".parse().unwrap());
        assert_eq!(snapshot(&world).explain(&packet).unwrap().live, Agreement::Agrees);
    });
    // Sockets and the end need fewer.
    with_caps(Caps::BPF | Caps::NET_ADMIN, || {
        let _receiver = Receiver::of(&mut open(&world), "other");
        wait_for_sockets(&world, "web", 0);
        assert_eq!(open(&world).unregister("web", None).unwrap(), 0);
        assert_eq!(open(&world).unregister("other", None).unwrap(), 2);
    });
    with_caps(Caps::NET_ADMIN, || Instance::down(&here(&world)).unwrap());
    assert_eq!(tree(world.bpffs.path()), ["inlet"]);
}

#[test]
fn a_foreign_program_on_the_link() {
    let Some(world) = World::new() else { return };
    world.local("192.0.2.0/24").unwrap();
    bind(&mut up(&world), "web", Tcp, "192.0.2.0/24", "80");
    let link = here(&world).dir().join("link");
    usurp(&link, passing().as_fd());
    for error in openings(&world).into_iter().chain([up_again(&world)]) {
        let Error::State(StateError::ForeignProgram { path, program }) = &error else { panic!("{error:?}") };
        assert_eq!(*path, link);
        let advice = format!(
            "\nfix: look at the program with: bpftool prog show id {program}; remove the instance with: inlet down"
        );
        assert!(told(&error).ends_with(&advice), "{error}");
    }
    Instance::down(&here(&world)).unwrap();
    assert_eq!(tree(world.bpffs.path()), ["inlet"]);
    drop(up(&world));
}

#[test]
fn a_link_that_was_detached() {
    let Some(world) = World::new() else { return };
    drop(up(&world));
    detach(&here(&world).dir().join("link"));
    for error in openings(&world).into_iter().chain([up_again(&world)]) {
        assert!(matches!(error, Error::State(StateError::Detached { .. })), "{error:?}");
        assert!(told(&error).ends_with("\nfix: remove what is left with: inlet down"), "{error}");
    }
    Instance::down(&here(&world)).unwrap();
    assert_eq!(up(&world).generation(), 1);
}

#[test]
fn a_newer_state_format() {
    let Some(world) = World::new() else { return };
    drop(up(&world));
    let meta = MapHandle::from_pinned_path(here(&world).dir().join("meta")).unwrap();
    let before = tree(world.bpffs.path());
    meta.update(&0_u32.to_ne_bytes(), &99_u32.to_ne_bytes(), MapFlags::ANY).unwrap();
    for error in openings(&world).into_iter().chain([up_again(&world)]) {
        assert!(matches!(error, Error::State(StateError::Newer { found: 99, .. })), "{error:?}");
        assert!(error.to_string().contains("state format 99 is newer than 3"), "{error}");
        assert!(
            told(&error)
                .contains("\nfix: use the newer inlet; or go back to this one: NEWER-INLET export > rules.json"),
            "{error}"
        );
    }
    assert_eq!(tree(world.bpffs.path()), before);
}

/// Waits until the kernel has taken a namespace down that nobody has any more. It does so in the background, and tells
/// nobody.
fn wait_until_dead(link: &Path) {
    let until = Instant::now() + Duration::from_secs(60);
    while namespace_of(link) != 0 {
        assert!(Instant::now() < until, "the namespace lives");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A link without a namespace may be that of one that died, or was detached by force in one that lives: the kernel
/// tells the same of both. `up` takes neither for its own to remove.
#[test]
fn what_is_left_of_another_namespace_stays() {
    let Some(world) = World::new() else { return };
    let [living, dying] = [(); 2].map(|()| inlet_testkit::Netns::unentered().unwrap());
    let location = |netns: &inlet_testkit::Namespace| {
        Location::new(world.bpffs.path(), Netns::open(netns.path().to_str().unwrap()).unwrap())
    };
    let links = [&living, &dying].map(|netns| {
        let mut instance = Instance::up(location(netns), &UpOptions::default()).unwrap();
        bind(&mut instance, "web", Tcp, "192.0.2.0/24", "80");
        location(netns).dir().join("link")
    });
    detach(&links[0]);
    drop(dying);
    links.iter().for_each(|link| wait_until_dead(link));
    drop(up(&world));
    assert!(links.iter().all(|link| link.exists()));
    // The one can still be taken down in its namespace, the other as the documentation says.
    Instance::down(&location(&living)).unwrap();
    std::fs::remove_dir_all(links[1].parent().unwrap()).unwrap();
    assert_eq!(tree(world.bpffs.path()), tree_of_one(&world, 1));
}

/// Every way to change what there is.
fn changes(world: &World) -> [Error; 3] {
    [up_again(world), Instance::open(here(world)).unwrap_err(), Instance::down(&here(world)).unwrap_err()]
}

/// In a bpf filesystem that everybody may write to, somebody else can be first.
#[test]
fn a_directory_that_somebody_else_can_change() {
    let Some(world) = World::new() else { return };
    let root = world.bpffs.path().join("inlet");
    as_reader(65534, || std::fs::create_dir(&root).unwrap());
    for error in changes(&world) {
        assert!(matches!(error, Error::State(StateError::Untrusted { owner: 65534, .. })), "{error:?}");
        let advice = format!("remove it with: rm -r {}", root.display());
        assert!(told(&error).ends_with(&advice), "{error}");
    }
    std::fs::remove_dir_all(&root).unwrap();
    let elsewhere = world.bpffs.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &root).unwrap();
    for error in changes(&world) {
        assert_eq!(error.to_string(), format!("cannot use {}: Not a directory (os error 20)", root.display()));
    }
    std::fs::remove_file(&root).unwrap();
    std::fs::remove_dir(&elsewhere).unwrap();
    drop(up(&world));
    let mode = |mode| std::fs::set_permissions(&root, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o775);
    for error in changes(&world) {
        assert!(matches!(error, Error::State(StateError::Untrusted { owner: 0, mode: 0o775, .. })), "{error:?}");
        let advice = format!("\nfix: chmod go-w {}", root.display());
        assert!(told(&error).ends_with(&advice), "{error}");
    }
    mode(0o755);
    Instance::down(&here(&world)).unwrap();
    assert_eq!(tree(world.bpffs.path()), ["inlet"]);
}

/// Runs a program in the namespaces of this thread.
fn run(program: &str, arguments: &[&str]) {
    let status = std::process::Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

/// What fails after the commit point does not undo the commit, and is done before the next one.
#[test]
fn a_commit_that_cannot_clear_away_what_it_replaced() {
    let Some(world) = World::new() else { return };
    let mut instance = up(&world);
    assert!(instance.ruleset().unwrap().is_empty(), "read before it is hidden");
    let first = here(&world).dir().join("gen-1");
    // A directory on which something is mounted cannot be removed.
    run("mount", &["-t", "tmpfs", "none", first.to_str().unwrap()]);
    let error = instance.bind(&to("web"), &selector(Tcp, "192.0.2.0/24", "80")).unwrap_err();
    assert!(matches!(error, Error::Commit(CommitError::Unfinished { generation: 2, .. })), "{error:?}");
    let text = told(&error);
    assert!(text.starts_with("the new ruleset is in force (generation 2), but "), "{text}");
    assert!(text.ends_with("\nfix: any command that changes the instance finishes it"), "{text}");
    assert_eq!((instance.generation(), instance.ruleset().unwrap().len()), (2, 1));
    let error = instance.set_service(&"new".parse().unwrap(), ServiceRequest::default()).unwrap_err();
    assert!(matches!(error, Error::Os { operation: "remove", .. }), "{error:?}");
    assert_eq!((instance.generation(), instance.ruleset().unwrap().services().len()), (2, 1));
    run("umount", &[first.to_str().unwrap()]);
    assert_eq!(instance.set_service(&"new".parse().unwrap(), ServiceRequest::default()).unwrap().generation, 3);
    assert_eq!(tree(world.bpffs.path()), tree_of_one(&world, 3));
}

/// No service gets the number of one that went while something of that one is left.
#[test]
fn a_number_that_is_not_free_yet_is_not_given_away() {
    let Some(world) = World::new() else { return };
    world.local("192.0.2.0/24").unwrap();
    let mut instance = up(&world);
    bind(&mut instance, "gone", Tcp, "192.0.2.0/24", "80");
    let receiver = Receiver::of(&mut instance, "gone");
    assert_eq!(asked(Tcp, "192.0.2.9:80"), "gone");
    // Nobody can clear these counters any more.
    MapHandle::from_pinned_path(here(&world).dir().join("counters")).unwrap().freeze().unwrap();
    instance.apply(source("{\"rules\": []}"), &ApplyOptions::default()).unwrap();
    // One could go back to the service until now.
    let pass = inlet::rules::Target::Pass;
    let error = instance.bind(&pass, &selector(Tcp, "192.0.2.0/24", "81")).unwrap_err();
    assert!(matches!(error, Error::Commit(CommitError::Unfinished { generation: 4, .. })), "{error:?}");
    assert_eq!(asked(Tcp, "192.0.2.9:80"), "Refused", "the new ruleset is in force");
    for _ in 0..2 {
        let error = instance.set_service(&"new".parse().unwrap(), ServiceRequest::default()).unwrap_err();
        assert!(error.to_string().starts_with("cannot clear the counters of service 1: "), "{error}");
    }
    assert!(instance.ruleset().unwrap().services().is_empty());
    drop((instance, receiver));
    let mut instance = open(&world);
    let error = instance.set_service(&"new".parse().unwrap(), ServiceRequest::default()).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot clear the counters of service 1: "),
        "another process knows it too: {error}"
    );
    // Who needs no new number goes on, and is told what waits.
    let committed = instance.bind(&pass, &selector(Tcp, "192.0.2.0/24", "82")).unwrap();
    assert_eq!((committed.generation, committed.without.len()), (5, 1));
    drop(instance);
    let committed = open(&world).roll_back(&CommitOptions::default()).unwrap();
    assert_eq!((committed.generation, committed.without.len()), (6, 1));
    Instance::down(&here(&world)).unwrap();
}

/// An interface may get another name and keep the former as its second one. Rules that name it stop matching; they keep
/// nobody from changing rules, and can be removed.
#[test]
fn an_interface_with_a_second_name() {
    let Some(world) = World::new() else { return };
    world.ip(&["link", "add", "d0", "type", "veth", "peer", "name", "p0"]).unwrap();
    let on = |name: &str| inlet::rules::Selector {
        iface: Some(name.parse().unwrap()),
        ..selector(Tcp, "192.0.2.0/24", "80")
    };
    let mut instance = up(&world);
    instance.bind(&to("web"), &on("d0")).unwrap();
    assert_ne!(instance.ruleset().unwrap().interfaces()[0].index, 0);
    world.ip(&["link", "set", "d0", "name", "d1"]).unwrap();
    for name in ["d0", "d2"] {
        world.ip(&["link", "property", "add", "dev", "d1", "altname", name]).unwrap();
    }
    bind(&mut instance, "web", Tcp, "198.51.100.0/24", "80");
    assert_eq!(instance.ruleset().unwrap().interfaces()[0].index, 0);
    let refused = |error: Error, name: &str| {
        assert_eq!(told(&error), format!("{name:?} is another name of interface \"d1\"\nfix: write d1"));
    };
    refused(instance.bind(&to("web"), &on("d2")).unwrap_err(), "d2");
    instance.unbind(&on("d0")).unwrap();
    assert!(instance.ruleset().unwrap().interfaces().is_empty());
    refused(instance.bind(&to("web"), &on("d0")).unwrap_err(), "d0");
}

/// Instances of several namespaces lie side by side and know nothing of each other.
#[test]
fn namespaces_are_apart() {
    let Some(world) = World::new() else { return };
    let other = inlet_testkit::Netns::unentered().unwrap();
    let there = || Location::new(world.bpffs.path(), Netns::open(other.path().to_str().unwrap()).unwrap());
    bind(&mut up(&world), "web", Tcp, "192.0.2.0/24", "80");
    assert!(matches!(Snapshot::open(there()), Err(Error::State(StateError::NotUp { .. }))));
    let mut instance = Instance::up(there(), &UpOptions::default()).unwrap();
    bind(&mut instance, "dns", Tcp, "198.51.100.0/24", "53");
    other.local("198.51.100.0/24").unwrap();
    // A receiver of that namespace, registered from this one.
    let receiver = other.enter(|| Receiver::new("dns"));
    instance.register("dns", &receiver.tcp).unwrap();
    drop(instance);
    assert_eq!(other.enter(|| asked(Tcp, "198.51.100.9:53")), "dns");
    let services = Snapshot::open(there()).unwrap().services().unwrap();
    assert_eq!(services[0].sockets[0].local.unwrap().addr().port(), receiver.tcp.local_addr().port());
    assert_eq!(asked(Tcp, "198.51.100.9:53").as_str(), "Other(NetworkUnreachable)");
    Instance::down(&there()).unwrap();
    assert_eq!(snapshot(&world).ruleset().len(), 1);
}

/// Runs `work` on a thread that is user 65534 with this group and no right. The credentials of a thread are its own.
fn as_reader<T: Send>(gid: u32, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (uid, gid) = (Uid::from_raw(65534), Gid::from_raw(gid));
            set_thread_groups(&[]).unwrap();
            set_thread_res_gid(gid, gid, gid).unwrap();
            set_thread_res_uid(uid, uid, uid).unwrap();
            work()
        });
        reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Some group other than root's, with a name.
fn some_group() -> Option<(String, u32)> {
    let text = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let gid: u32 = fields.get(2)?.parse().ok()?;
        (gid != 0).then(|| (fields[0].to_owned(), gid))
    });
    require(found.is_some(), "a group in /etc/group").then_some(found).flatten()
}

#[test]
fn a_group_may_read_and_nobody_else() {
    let Some(world) = World::new() else { return };
    let Some((group, gid)) = some_group() else { return };
    world.local("192.0.2.0/24").unwrap();
    let mut instance = Instance::up(here(&world), &UpOptions { group: Some(group), ..UpOptions::default() }).unwrap();
    // The modes of a new generation too.
    bind(&mut instance, "web", Tcp, "192.0.2.0/24", "80");
    let _receiver = Receiver::of(&mut instance, "web");
    drop(instance);
    assert_eq!(asked(Tcp, "192.0.2.9:80"), "web");
    let bpffs = world.bpffs.path();
    let packet = Packet::new(Tcp, "192.0.2.9:80".parse().unwrap(), "192.0.2.8:9".parse().unwrap());
    as_reader(gid, || {
        let snapshot = Snapshot::open(at(bpffs)).unwrap();
        assert_eq!((snapshot.generation(), snapshot.ruleset().len()), (2, 1));
        let services = snapshot.services().unwrap();
        assert_eq!((services[0].counters.steered, services[0].sockets.len()), (1, 2));
        let explanation = snapshot.explain(&packet).unwrap();
        assert!(explanation.rule.is_some());
        assert_eq!(explanation.live, Agreement::NotAsked(Unasked::NotPermitted));
        drop(snapshot);
        let error = Instance::open(at(bpffs)).unwrap_err();
        assert!(matches!(error, Error::Kernel(KernelError::Capability { .. })), "{error:?}");
    });
    as_reader(gid + 1, || {
        let error = Snapshot::open(at(bpffs)).unwrap_err();
        assert!(error.to_string().contains("Permission denied"), "{error}");
    });
    // Which of two generations is in force only those know who may open the link.
    std::fs::create_dir(here(&world).dir().join("gen-9")).unwrap();
    as_reader(gid, || assert!(matches!(Snapshot::open(at(bpffs)), Err(Error::State(StateError::Interrupted { .. })))));
    assert_eq!(snapshot(&world).generation(), 2);
    let error = up_again(&world);
    assert!(matches!(error, Error::State(StateError::AlreadyUp { .. })), "{error:?}");
    as_reader(gid, || assert_eq!(Snapshot::open(at(bpffs)).unwrap().generation(), 2));
}

#[test]
fn names_that_do_not_exist() {
    let Some(world) = World::new() else { return };
    let options = UpOptions { group: Some("no-such-group".into()), ..UpOptions::default() };
    let error = Instance::up(here(&world), &options).unwrap_err();
    assert_eq!(told(&error), "unknown group \"no-such-group\"\nfix: list the groups with: getent group");
    let mut instance = up(&world);
    let rule = selector(Tcp, "192.0.2.0/24", "80");
    let cases = [
        (instance.unbind(&rule).unwrap_err(), "no rule tcp 192.0.2.0/24 80\nfix: list the rules with: inlet rules"),
        (
            instance.remove_service("web").unwrap_err(),
            "no service \"web\"\nfix: list them with: inlet services; or create it with: inlet service set web",
        ),
        (
            instance
                .bind(&to("web"), &inlet::rules::Selector { iface: Some("eth7".parse().unwrap()), ..rule })
                .unwrap_err(),
            "no interface \"eth7\" in this network namespace\nfix: list the interfaces with: ip link",
        ),
    ];
    for (error, text) in cases {
        assert_eq!(told(&error), text);
    }
    assert_eq!((instance.generation(), instance.ruleset().unwrap().services().len()), (1, 0));
}
