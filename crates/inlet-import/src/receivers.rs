//! A first ruleset of a host as it is: who receives what today, as rules that change nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use inlet_core::{PortRange, Prefix, Protocol, ServiceName};

use crate::{Imported, Left, Listener, RuleText, ServiceText, VerdictText};

/// Rules and descriptions for the listeners of all addresses, at the prefixes that are local as a whole. Listeners of
/// one address
/// keep it by a rule that passes.
pub fn receivers(listeners: &[Listener], prefixes: &[Prefix]) -> Imported {
    let mut imported = Imported::default();
    let mut services: BTreeMap<(u16, Protocol), Vec<&Listener>> = BTreeMap::new();
    for listener in listeners.iter().filter(|listener| listener.addr.is_unspecified()) {
        services.entry((listener.port, listener.protocol)).or_default().push(listener);
    }
    let sets = [false, true].map(|v6| of_family(prefixes, v6));
    for (v6, set) in [(false, &sets[0]), (true, &sets[1])] {
        if set.len() > 1 {
            imported.sets.push((set_name(v6).to_owned(), set.clone()));
        }
    }
    let mut names = BTreeSet::new();
    for ((port, protocol), all) in &services {
        let name = name(&mut names, *protocol, *port, all);
        let local: Vec<String> = [false, true]
            .into_iter()
            .zip(&sets)
            .filter(|(v6, set)| !set.is_empty() && all.iter().any(|listener| serves(listener, *v6)))
            .map(|(v6, set)| if set.len() > 1 { format!("@{}", set_name(v6)) } else { set[0].to_string() })
            .collect();
        let listen: BTreeSet<String> = all.iter().map(|listener| listen(listener)).collect();
        let note = Some(format!("receives {protocol} {port} on all addresses"));
        imported.services.push(ServiceText { name: name.clone(), listen: listen.into_iter().collect(), note });
        if !local.is_empty() {
            let note = format!("{protocol} {port}");
            imported.rules.push(rule(VerdictText::To(name), *protocol, local, *port, note));
        }
    }
    for listener in listeners.iter().filter(|listener| !listener.addr.is_unspecified()) {
        let is_taken = services.get(&(listener.port, listener.protocol)).is_some_and(|all| {
            all.iter().any(|other| serves(other, listener.addr.is_ipv6()))
                && prefixes.iter().any(|prefix| prefix.contains(listener.addr))
        });
        if is_taken {
            let local = vec![Prefix::from(listener.addr).to_string()];
            let note = format!("{} has this address", listener.program.as_deref().unwrap_or("another socket"));
            imported.rules.push(rule(VerdictText::Pass, listener.protocol, local, listener.port, note));
        }
    }
    if prefixes.is_empty() {
        let why =
            "no prefix is local as a whole (AnyIP), so there are descriptions but no rules; add local = \"PREFIX\"";
        let (place, text) = ("the routes of the host".to_owned(), String::new());
        imported.left.push(Left { place, text, why: why.to_owned(), todo: false });
    }
    imported
}

fn set_name(v6: bool) -> &'static str {
    if v6 { "anyip-v6" } else { "anyip-v4" }
}

fn of_family(prefixes: &[Prefix], v6: bool) -> Vec<Prefix> {
    let all: BTreeSet<Prefix> = prefixes.iter().copied().filter(|prefix| prefix.is_v6() == v6).collect();
    all.into_iter().collect()
}

/// Whether it gets packets of this family.
fn serves(listener: &Listener, v6: bool) -> bool {
    listener.addr.is_ipv6() == v6 || listener.addr.is_ipv6() && !listener.v6only
}

fn listen(Listener { protocol, addr, port, .. }: &Listener) -> String {
    match addr {
        IpAddr::V4(addr) => format!("{protocol}:{addr}:{port}"),
        IpAddr::V6(addr) => format!("{protocol}:[{addr}]:{port}"),
    }
}

/// The program and the port, as far as that is the name of a service that no other one has.
fn name(names: &mut BTreeSet<String>, protocol: Protocol, port: u16, all: &[&Listener]) -> String {
    let program = all.iter().find_map(|listener| listener.program.as_deref()).unwrap_or_default();
    let wanted = [format!("{program}-{port}"), format!("{program}-{protocol}-{port}"), format!("{protocol}-{port}")];
    let fits = |name: &&String| !name.starts_with('-') && name.parse::<ServiceName>().is_ok() && !names.contains(*name);
    let name = wanted.iter().find(fits).unwrap_or(&wanted[2]).clone();
    names.insert(name.clone());
    name
}

fn rule(verdict: VerdictText, protocol: Protocol, local: Vec<String>, port: u16, note: String) -> RuleText {
    let ports = PortRange::new(port, port).into_iter().collect();
    RuleText {
        verdict,
        protocols: vec![protocol],
        local,
        ports,
        except: Vec::new(),
        from: Vec::new(),
        iface: None,
        mark: None,
        note,
    }
}

/// The prefixes that are local as a whole, of what /proc/net/fib_trie and /proc/net/ipv6_route have.
pub fn local_prefixes(fib_trie: &str, ipv6_route: &str) -> Vec<Prefix> {
    let mut found = BTreeSet::new();
    let mut addr: Option<IpAddr> = None;
    for line in fib_trie.lines() {
        let line = line.trim();
        if let Some(leaf) = line.strip_prefix("|-- ") {
            addr = leaf.parse().ok();
        } else if let Some((len, kind)) = line.strip_prefix('/').and_then(|rest| rest.split_once(' ')) {
            let len = len.parse::<u8>().ok().filter(|_| kind.ends_with("LOCAL"));
            found.extend(addr.zip(len).and_then(|(addr, len)| whole(addr, len)));
        }
    }
    /// `RTF_LOCAL` of linux/ipv6_route.h.
    const LOCAL: u32 = 0x8000_0000;
    for line in ipv6_route.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [addr, len, .., flags, _] = words.as_slice() else { continue };
        let (addr, len) = (u128::from_str_radix(addr, 16), u8::from_str_radix(len, 16));
        let flags = u32::from_str_radix(flags, 16).unwrap_or_default();
        if let (Ok(addr), Ok(len), true) = (addr, len, flags & LOCAL != 0) {
            found.extend(whole(IpAddr::V6(addr.into()), len));
        }
    }
    found.into_iter().collect()
}

/// The same, of what `ip route show table local` and `ip -6 route show table local` wrote.
pub fn routed_prefixes(text: &str) -> Vec<Prefix> {
    let prefix = |line: &str| {
        let mut words = line.split_whitespace();
        let (addr, len) = (words.next() == Some("local")).then(|| words.next()?.split_once('/'))??;
        whole(addr.parse().ok()?, len.parse().ok()?)
    };
    let found: BTreeSet<Prefix> = text.lines().filter_map(prefix).collect();
    found.into_iter().collect()
}

/// A prefix of more than one address, and not of loopback.
fn whole(addr: IpAddr, len: u8) -> Option<Prefix> {
    let hosts = if addr.is_ipv4() { 32 } else { 128 };
    Prefix::holding(addr, len).filter(|_| len < hosts && !addr.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listeners;

    const SS: &str = "tcp LISTEN 0 9 0.0.0.0:80 0.0.0.0:* users:((\"nginx\",pid=1,fd=3))\n\
        tcp LISTEN 0 9 [::]:80 [::]:* users:((\"nginx\",pid=1,fd=4))\n\
        udp UNCONN 0 9 *:53 *:* users:((\"my dns\",pid=1,fd=4))\n\
        tcp LISTEN 0 9 192.0.2.7:80 0.0.0.0:* users:((\"apache2\",pid=1,fd=4))\n\
        tcp LISTEN 0 9 127.0.0.1:80 0.0.0.0:*\n";

    #[test]
    fn what_receives_today_becomes_rules() {
        let prefixes: Vec<Prefix> =
            ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/64"].map(|text| text.parse().unwrap()).to_vec();
        let mut file = Vec::new();
        receivers(&listeners(SS).unwrap(), &prefixes).write_toml(&mut file).unwrap();
        assert_eq!(
            String::from_utf8(file).unwrap(),
            r#"# receives udp 53 on all addresses
services.my-53 = { listen = ["udp:[::]:53"] }
# receives tcp 80 on all addresses
services.nginx-80 = { listen = ["tcp:0.0.0.0:80", "tcp:[::]:80"] }
sets.anyip-v4 = [
  "192.0.2.0/24",
  "198.51.100.0/24",
]
rules = [
  # udp 53
  { to = "my-53", protocol = "udp", local = ["@anyip-v4", "2001:db8::/64"], ports = 53 },
  # tcp 80
  { to = "nginx-80", protocol = "tcp", local = ["@anyip-v4", "2001:db8::/64"], ports = 80 },
  # apache2 has this address
  { verdict = "pass", protocol = "tcp", local = "192.0.2.7/32", ports = 80 },
]
"#
        );
    }

    #[test]
    fn prefixes_that_are_local_as_a_whole() {
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.0\n        /8 host LOCAL\n     |-- 127.0.0.1\n        \
            /32 host LOCAL\n     |-- 192.0.2.0\n        /24 host LOCAL\n     |-- 198.51.100.0\n        /24 link UNICAST\n";
        let six = "20010db8000000000000000000000000 40 00000000000000000000000000000000 00 \
            00000000000000000000000000000000 00000400 00000001 00000000 80000001       lo\n\
            fe800000000000000000000000000000 40 00000000000000000000000000000000 00 \
            00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n";
        let texts = |prefixes: Vec<Prefix>| prefixes.iter().map(Prefix::to_string).collect::<Vec<_>>();
        assert_eq!(texts(local_prefixes(trie, six)), ["192.0.2.0/24", "2001:db8::/64"]);
        let routes = "local 127.0.0.0/8 dev lo proto kernel\nlocal 192.0.2.0/24 dev lo scope host\nbroadcast 10.0.0.0 dev x\n\
            local 10.0.0.1 dev x\nlocal 2001:db8::/64 dev lo metric 1024\n";
        assert_eq!(texts(routed_prefixes(routes)), ["192.0.2.0/24", "2001:db8::/64"]);
    }
}
