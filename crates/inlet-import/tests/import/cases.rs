//! Rulesets as people publish them, each beside the file that it must become. The `.json` files are what nft made of
//! the `.nft` ones. Those that begin with `k-` were held against the firewall in the kernel when they were made.

use std::path::Path;

use inlet_import::{Surroundings, tproxy};

use crate::{ruleset, toml};

#[test]
fn every_case_becomes_its_file() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut names: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let mut count = 0;
    for path in
        names.iter().filter(|path| ["save", "restore", "json"].iter().any(|kind| path.extension().unwrap() == *kind))
    {
        let imported = tproxy(&std::fs::read_to_string(path).unwrap(), &Surroundings::default()).unwrap();
        let expected = path.with_extension("toml");
        ruleset(&imported);
        let expected = std::fs::read_to_string(&expected).unwrap();
        assert_eq!(toml(&imported), expected, "{}", path.display());
        count += 1;
    }
    assert!(count >= 90, "only {count} cases");
}

/// A ruleset of iptables with sets of this many members: what is bypassed, what is steered, from where.
fn large(bypassed: usize, steered: usize, sources: usize) -> String {
    let mut text = "*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -m set --match-set chn dst -j RETURN\n\
        -A PREROUTING -p tcp -m set --match-set lan src -m set --match-set gfw dst -j TPROXY --on-port 9000 --on-ip 127.0.0.1\n\
        -A PREROUTING -p tcp -m set --match-set lan src -j TPROXY --on-port 9001 --on-ip 127.0.0.1\nCOMMIT\n"
        .to_owned();
    for (name, count, step) in
        [("chn", bypassed, 2_654_435_761_u32), ("gfw", steered, 40_503_001), ("lan", sources, 7_368_787)]
    {
        text += &format!("create {name} hash:net family inet\n");
        for number in 0..count {
            let addr = std::net::Ipv4Addr::from((number as u32).wrapping_mul(step) & 0xffff_ff00);
            text += &format!("add -exist {name} {addr}/24\n");
        }
    }
    text
}

#[test]
fn many_prefixes_are_no_matter() {
    for (bypassed, steered, sources) in [(8000, 3000, 60), (100_000, 0, 10)] {
        let start = std::time::Instant::now();
        let imported = tproxy(&large(bypassed, steered, sources), &Surroundings::default()).unwrap();
        let file = toml(&imported);
        // Far more than it takes, and far less than what grows with the square.
        assert!(start.elapsed().as_secs() < 20, "{bypassed}: {:?}", start.elapsed());
        assert_eq!(imported.left, []);
        let rules = file.lines().filter(|line| line.starts_with("  {")).count();
        assert!(rules <= 8 && file.lines().count() < bypassed + steered + 2 * sources + 40, "{rules} rules");
    }
}

#[test]
fn chains_that_call_each_other_twice_end() {
    let mut text = "*mangle\n:PREROUTING ACCEPT [0:0]\n".to_owned();
    (0..=40).for_each(|number| text += &format!(":C{number} - [0:0]\n"));
    text += "-A PREROUTING -p tcp -j C0\n";
    let mark = |number: u32| {
        format!("-A C{number} -m limit --limit 5/sec -j MARK --set-xmark {0:#x}/{0:#x}\n", 1_u64 << (number % 32))
    };
    for number in 0..40 {
        text +=
            &format!("{}-A C{number} -m length --length 9 -j C{1}\n-A C{number} -j C{1}\n", mark(number), number + 1);
    }
    text += "-A C40 -p tcp -m mark --mark 0x1/0x1 -j TPROXY --on-port 9000\nCOMMIT\n";
    let imported = tproxy(&text, &Surroundings::default()).unwrap();
    assert!(imported.left.iter().any(|left| left.why.contains("takes too long")), "{:?}", imported.left);
    assert_eq!(ruleset(&imported).rules().count(), 0);
    // A chain that calls itself, which the kernel does not allow.
    let text = "*mangle\n:PREROUTING ACCEPT [0:0]\n:A - [0:0]\n-A PREROUTING -j A\n-A A -p tcp -d 10.0.0.0/8 -j A\n\
        -A A -p tcp -j TPROXY --on-port 9000\nCOMMIT\n";
    let imported = tproxy(text, &Surroundings::default()).unwrap();
    assert!(imported.left.iter().any(|left| left.todo), "{:?}", imported.left);
}
