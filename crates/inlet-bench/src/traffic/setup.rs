//! The ways to bind, each set up in namespaces of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;

use inlet::rules::{Builder, Mark, Protocol, Rule, Verdict};
use inlet::{CommitOptions, Instance, Location, Netns, UpOptions};
use inlet_testkit::{End, Namespace, World, veth};
use libbpf_rs::Link;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};

use crate::Result;
use crate::baseline::attach_empty;
use crate::raw;
use crate::rules::{self, Families};

/// What is to receive, and what clients ask for.
pub(super) const NET: &str = "198.51.100.0/24";
const TARGET: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), 8080);
/// Where a server listens that gets its packets by Inlet or TPROXY.
const ELSEWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9000);

/// The way that asks for a mark, and the one that is the same without.
pub(crate) const MARKED: &str = "with a mark: inlet, 1 rule";
pub(crate) const UNMARKED: &str = "inlet, 1 rule";

/// How a server gets its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It binds the very address.
    Direct,
    /// It binds the very address, and a program that does nothing is attached to the hook that Inlet uses.
    EmptyHook,
    /// It binds all addresses.
    Wildcard,
    /// By Inlet, with this many rules.
    Inlet(usize),
    /// By Inlet, with one rule, which asks for a mark that all packets have.
    Marked,
    /// By TPROXY with iptables and ipset.
    Iptables,
    /// By TPROXY with nftables.
    Nftables,
}

impl Way {
    pub(super) fn label(self) -> String {
        match self {
            Self::Direct => "direct bind".to_owned(),
            Self::EmptyHook => "direct bind, empty hook".to_owned(),
            Self::Wildcard => "wildcard bind".to_owned(),
            Self::Inlet(1) => UNMARKED.to_owned(),
            Self::Inlet(rules) => format!("inlet, {rules} rules"),
            Self::Marked => MARKED.to_owned(),
            Self::Iptables => "tproxy, iptables".to_owned(),
            Self::Nftables => "tproxy, nftables".to_owned(),
        }
    }

    fn address(self) -> SocketAddr {
        match self {
            Self::Direct | Self::EmptyHook => TARGET,
            Self::Wildcard => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), TARGET.port()),
            Self::Inlet(_) | Self::Marked | Self::Iptables | Self::Nftables => ELSEWHERE,
        }
    }
}

/// One way, ready for traffic.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) way: Way,
    pub(super) client: Namespace,
    pub(super) server: Namespace,
    _hook: Option<Link>,
    pub(super) tcp: TcpListener,
    pub(super) udp: UdpSocket,
    /// Where clients go to.
    pub(super) target: SocketAddr,
}

impl Lane {
    pub(super) fn set_up(way: Way, world: &World) -> Result<Self> {
        crate::table::progress(format_args!("traffic: setting up {}", way.label()));
        let (server, client) = (Namespace::new()?, Namespace::new()?);
        let end = |namespace, addresses| End { namespace, name: "veth0", addresses };
        veth(end(&server, &["10.9.0.1/24"]), end(&client, &["10.9.0.2/24"]))?;
        client.ip(&["route", "add", NET, "via", "10.9.0.1"])?;
        match way {
            Way::Direct | Way::EmptyHook | Way::Wildcard | Way::Inlet(_) | Way::Marked => server.local(NET)?,
            Way::Iptables => iptables(&server)?,
            Way::Nftables => nftables(&server)?,
        }
        let (tcp, udp) = server.enter(|| sockets(way))?;
        let (count, mark) = match way {
            Way::Inlet(rules) => (rules, None),
            Way::Marked => (1, Some("0x0/0x1".parse()?)),
            _ => (0, None),
        };
        if count > 0 {
            // What hands marks over is attached where the thread is that its location was made in.
            let location = location(world, &server)?;
            server.enter(|| steer(location, (count, mark), &tcp, &udp))?;
        }
        let hook = (way == Way::EmptyHook).then(|| attach_empty(server.fd())).transpose()?;
        Ok(Self { way, client, server, _hook: hook, tcp, udp, target: TARGET })
    }
}

/// The instance of the server's namespace.
pub(super) fn location(world: &World, server: &Namespace) -> Result<Location> {
    let netns = server.enter(|| Netns::open(&server.path().to_string_lossy()))?;
    Ok(Location::new(world.bpffs.path(), netns))
}

fn sockets(way: Way) -> Result<(TcpListener, UdpSocket)> {
    let open = |kind| -> Result<_> {
        let socket = socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None)?;
        if matches!(way, Way::Iptables | Way::Nftables) {
            raw::set_transparent(socket.as_fd())?;
        }
        bind(&socket, &way.address())?;
        Ok(socket)
    };
    let (tcp, udp) = (open(SocketType::STREAM)?, open(SocketType::DGRAM)?);
    listen(&tcp, 1024)?;
    Ok((tcp.into(), udp.into()))
}

/// The rules of a realistic mix, of which the last is about the target, and asks for a mark if one is given.
fn steer(location: Location, (count, mark): (usize, Option<Mark>), tcp: &TcpListener, udp: &UdpSocket) -> Result<()> {
    let mut instance = Instance::up(location, &UpOptions::default())?;
    let mut builder = Builder::new();
    if count > 1 {
        rules::mix(count - 2, Families::Both).fill(&mut builder)?;
    }
    let service = Verdict::Service(builder.service(&"target".parse()?)?);
    for protocol in Protocol::ALL {
        let rule = Rule::new(protocol, NET.parse()?, "8080".parse()?, service);
        builder.push(&mark.map_or(rule, |mark| rule.marked(mark)))?;
    }
    instance.commit(builder.finish()?, &CommitOptions::default())?;
    instance.register("target", tcp)?;
    instance.register("target", udp)?;
    Ok(())
}

/// Marked packets are for this host, whatever their address is.
fn route_marked(server: &Namespace) -> Result<()> {
    server.ip(&["rule", "add", "fwmark", "1", "lookup", "100"])?;
    server.ip(&["route", "add", "local", "default", "dev", "lo", "table", "100"])?;
    Ok(())
}

fn iptables(server: &Namespace) -> Result<()> {
    route_marked(server)?;
    let run = |line: &str| -> Result<()> {
        let mut words = line.split_whitespace();
        let program = words.next().unwrap_or_default();
        server.run(Command::new(program).args(words))?;
        Ok(())
    };
    run("ipset create inlet hash:net")?;
    run(&format!("ipset add inlet {NET}"))?;
    run("iptables -t mangle -N DIVERT")?;
    run("iptables -t mangle -A DIVERT -j MARK --set-mark 1")?;
    run("iptables -t mangle -A DIVERT -j ACCEPT")?;
    run("iptables -t mangle -A PREROUTING -p tcp -m socket --transparent -j DIVERT")?;
    for protocol in ["tcp", "udp"] {
        run(&format!(
            "iptables -t mangle -A PREROUTING -p {protocol} -m set --match-set inlet dst -m {protocol} --dport {} \
             -j TPROXY --on-ip {} --on-port {} --tproxy-mark 1",
            TARGET.port(),
            ELSEWHERE.ip(),
            ELSEWHERE.port()
        ))?;
    }
    Ok(())
}

fn nftables(server: &Namespace) -> Result<()> {
    route_marked(server)?;
    let port = TARGET.port();
    let rules = format!(
        "add table ip inlet
         add set ip inlet nets {{ type ipv4_addr; flags interval; elements = {{ {NET} }}; }}
         add chain ip inlet prerouting {{ type filter hook prerouting priority mangle; policy accept; }}
         add rule ip inlet prerouting meta l4proto tcp socket transparent 1 meta mark set 1 accept
         add rule ip inlet prerouting ip daddr @nets tcp dport {port} tproxy to {ELSEWHERE} meta mark set 1 accept
         add rule ip inlet prerouting ip daddr @nets udp dport {port} tproxy to {ELSEWHERE} meta mark set 1 accept"
    );
    server.run(Command::new("nft").arg(rules))?;
    Ok(())
}
