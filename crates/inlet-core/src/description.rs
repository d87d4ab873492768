//! Descriptions: which sockets belong to a service, said once, so that they are found again after every restart.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::{Protocol, ProtocolError};

/// Which sockets belong to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    listen: Vec<Listen>,
    /// Where the process that makes the socket has to be.
    pub confine: Option<Confine>,
    /// Whose the socket has to be.
    pub user: Option<UserName>,
}

/// A protocol, a local address and a port that a socket is bound to: `tcp:127.0.0.1:8080`, `udp:[::1]:53`, `tcp:*:80`; or all
/// TCP listeners, `tcp:*:*`, which takes a unit or a control group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listen {
    protocol: Protocol,
    addr: ListenAddr,
    /// 0 for all.
    port: u16,
}

/// The local address of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ListenAddr {
    /// Exactly this one; `0.0.0.0` and `::` are the sockets of all addresses. Never an IPv4-mapped one: a socket bound to
    /// it is the same as one bound to the IPv4 address.
    Exact(IpAddr),
    /// Whatever it is, written `*`.
    Any,
}

/// A place among the control groups (cgroup v2), with all below it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Confine {
    /// The one of a unit of the system's systemd, such as `nginx.service`.
    Unit(UnitName),
    /// The one with this path below the cgroup v2 root.
    Cgroup(CgroupPath),
}

/// The name of a systemd unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnitName(Box<str>);

/// The path of a control group below the cgroup v2 root: `/system.slice/nginx.service`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CgroupPath(Box<str>);

/// The name or number of a user, as it was given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UserName(Box<str>);

/// Why a text or a list is no description.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptionError {
    /// The protocol is unknown.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// Not a protocol, an address and a port.
    #[error("{0:?} is not a protocol, an address and a port; write tcp:127.0.0.1:8080, udp:[::1]:53 or tcp:*:80")]
    Listen(String),
    /// Port 0, which no bound socket has.
    #[error("{0:?}: port 0 cannot be described; ports go from 1 to 65535")]
    Zero(String),
    /// Nothing to listen on.
    #[error("a description needs at least one address to listen on, such as tcp:127.0.0.1:8080")]
    Empty,
    /// Not a name of a unit.
    #[error("{0:?} is not the name of a unit; write it like nginx.service")]
    Unit(String),
    /// Not a path of a control group.
    #[error(
        "{0:?} is not the path of a control group; write it from the cgroup v2 root, like /system.slice/nginx.service"
    )]
    Cgroup(String),
    /// Deeper than the kernel program looks.
    #[error("control group {0:?} is more than {MAX_DEPTH} levels deep")]
    Deep(String),
    /// A part of the path is longer than the kernel program looks.
    #[error("control group {0:?} has a name of more than {MAX_NAME} bytes")]
    LongName(String),
    /// Not the name of a user.
    #[error("{0:?} is not the name or number of a user")]
    User(String),
}

/// How many levels deep a control group may be.
pub const MAX_DEPTH: usize = 8;
/// How many bytes the name of a control group may have.
pub const MAX_NAME: usize = 127;

impl Description {
    /// Sockets at these addresses, wherever and whose they are.
    ///
    /// # Errors
    /// [`DescriptionError::Empty`] when there is none.
    pub fn new(listen: impl IntoIterator<Item = Listen>) -> Result<Self, DescriptionError> {
        let mut listen: Vec<Listen> = listen.into_iter().collect();
        listen.sort_unstable();
        listen.dedup();
        match listen.is_empty() {
            true => Err(DescriptionError::Empty),
            false => Ok(Self { listen, confine: None, user: None }),
        }
    }

    /// The addresses, in order, each once.
    pub fn listen(&self) -> &[Listen] {
        &self.listen
    }

    /// Whether it means all listeners wherever they are, the host's own ones too.
    pub fn is_boundless(&self) -> bool {
        self.confine.is_none() && self.listen.contains(&Listen::ALL_TCP)
    }

    /// An address that a socket could have for which both descriptions speak. Users and control groups that differ keep them apart.
    pub fn overlap(&self, other: &Self) -> Option<Listen> {
        let users_differ = matches!((&self.user, &other.user), (Some(a), Some(b)) if a.apart(b));
        let places_differ = matches!((&self.confine, &other.confine), (Some(a), Some(b)) if a.apart(b));
        if users_differ || places_differ {
            return None;
        }
        let meets = |a: &Listen| other.listen.iter().find_map(|b| a.meet(*b));
        self.listen.iter().find_map(meets)
    }
}

impl Listen {
    /// The protocol, address and port of a socket. An IPv4-mapped address becomes the IPv4 one.
    ///
    /// # Errors
    /// [`DescriptionError::Zero`].
    pub fn new(protocol: Protocol, addr: ListenAddr, port: u16) -> Result<Self, DescriptionError> {
        let addr = match addr {
            ListenAddr::Exact(addr) => ListenAddr::Exact(addr.to_canonical()),
            ListenAddr::Any => ListenAddr::Any,
        };
        let listen = Self { protocol, addr, port };
        if port == 0 { Err(DescriptionError::Zero(listen.to_string())) } else { Ok(listen) }
    }

    /// The protocol.
    pub fn protocol(self) -> Protocol {
        self.protocol
    }

    /// The address.
    pub fn addr(self) -> ListenAddr {
        self.addr
    }

    /// All TCP listeners, whatever their address and port.
    pub const ALL_TCP: Self = Self { protocol: Protocol::Tcp, addr: ListenAddr::Any, port: 0 };

    /// The port, 1 to 65535; `None` for all.
    pub fn port(self) -> Option<u16> {
        Some(self.port).filter(|port| *port != 0)
    }

    /// Whether a socket that is bound there is meant.
    pub fn matches(self, protocol: Protocol, local: SocketAddr) -> bool {
        let addr = match self.addr {
            ListenAddr::Exact(addr) => addr == local.ip().to_canonical(),
            ListenAddr::Any => true,
        };
        addr && self.protocol == protocol && (self.port == 0 || self.port == local.port())
    }

    /// The sockets that both mean.
    fn meet(self, other: Self) -> Option<Self> {
        let same_port = self.port == other.port || self.port == 0 || other.port == 0;
        match (self.addr, other.addr) {
            _ if self.protocol != other.protocol || !same_port => None,
            _ if self.port == 0 => Some(other),
            _ if other.port == 0 => Some(self),
            (ListenAddr::Any, _) => Some(other),
            (_, ListenAddr::Any) => Some(self),
            (a, b) => (a == b).then_some(self),
        }
    }
}

impl Confine {
    /// Whether nothing can be in both.
    fn apart(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unit(a), Self::Unit(b)) => a != b,
            (Self::Cgroup(a), Self::Cgroup(b)) => !a.covers(b) && !b.covers(a),
            // Where a unit is the core does not know: a name that is no part of the path is elsewhere.
            (Self::Unit(unit), Self::Cgroup(path)) | (Self::Cgroup(path), Self::Unit(unit)) => {
                let last = path.names().last();
                path.names().all(|name| name != unit.as_str()) && last.is_some_and(|last| !last.ends_with(".slice"))
            }
        }
    }
}

impl UnitName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl CgroupPath {
    /// The path, which begins with a slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names on the way from the root to it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|name| !name.is_empty())
    }

    /// Whether the other is this one or below it.
    pub fn covers(&self, other: &Self) -> bool {
        let mut theirs = other.names();
        self.names().all(|name| theirs.next() == Some(name))
    }
}

impl UserName {
    /// The name, or the number in decimal.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether these are surely two users: a name may be that of any number.
    fn apart(&self, other: &Self) -> bool {
        let number = |user: &Self| user.0.parse::<u32>().ok();
        self != other && number(self).is_some() == number(other).is_some()
    }
}

impl FromStr for Listen {
    type Err = DescriptionError;

    fn from_str(text: &str) -> Result<Self, DescriptionError> {
        let syntax = || DescriptionError::Listen(text.to_owned());
        if text == "tcp:*:*" {
            return Ok(Self::ALL_TCP);
        }
        let (protocol, rest) = text.split_once(':').ok_or_else(syntax)?;
        let protocol = protocol.parse()?;
        let (addr, port) = match rest.strip_prefix("*:") {
            Some(port) => (ListenAddr::Any, port.parse().map_err(|_| syntax())?),
            None => {
                let addr: SocketAddr = rest.parse().map_err(|_| syntax())?;
                (ListenAddr::Exact(addr.ip()), addr.port())
            }
        };
        Self::new(protocol, addr, port)
    }
}

impl FromStr for UnitName {
    type Err = DescriptionError;

    fn from_str(text: &str) -> Result<Self, DescriptionError> {
        let kind = text.rsplit_once('.').filter(|(name, _)| !name.is_empty()).map(|(_, kind)| kind);
        let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        match matches!(kind, Some("service" | "scope" | "slice")) && text.chars().all(plain) && text.len() <= MAX_NAME {
            true => Ok(Self(text.into())),
            false => Err(DescriptionError::Unit(text.to_owned())),
        }
    }
}

impl FromStr for CgroupPath {
    type Err = DescriptionError;

    fn from_str(text: &str) -> Result<Self, DescriptionError> {
        let given = || text.to_owned();
        let path = text.strip_prefix('/').ok_or_else(|| DescriptionError::Cgroup(given()))?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let bad = |name: &str| name.is_empty() || name == "." || name == ".." || name.chars().any(char::is_control);
        let names: Vec<&str> = path.split('/').collect();
        if names.iter().any(|name| bad(name)) {
            return Err(DescriptionError::Cgroup(given()));
        }
        if names.len() > MAX_DEPTH {
            return Err(DescriptionError::Deep(given()));
        }
        if names.iter().any(|name| name.len() > MAX_NAME) {
            return Err(DescriptionError::LongName(given()));
        }
        Ok(Self(format!("/{path}").into()))
    }
}

impl FromStr for UserName {
    type Err = DescriptionError;

    fn from_str(text: &str) -> Result<Self, DescriptionError> {
        let bad = |c: char| c.is_control() || c.is_whitespace() || c == ':' || c == '/';
        match text.is_empty() || text.len() > 255 || text.contains(bad) {
            true => Err(DescriptionError::User(text.to_owned())),
            false => Ok(Self(text.into())),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addr {
            ListenAddr::Exact(addr) => f.pad(&format!("{}:{}", self.protocol, SocketAddr::new(addr, self.port))),
            ListenAddr::Any if self.port == 0 => f.pad(&format!("{}:*:*", self.protocol)),
            ListenAddr::Any => f.pad(&format!("{}:*:{}", self.protocol, self.port)),
        }
    }
}

impl fmt::Display for Confine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(unit) => write!(f, "unit {}", unit.as_str()),
            Self::Cgroup(path) => write!(f, "cgroup {}", path.as_str()),
        }
    }
}

/// In the words of the command line without its dashes: `listen tcp:127.0.0.1:8080 unit nginx.service`.
impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("listen")?;
        self.listen.iter().try_for_each(|listen| write!(f, " {listen}"))?;
        if let Some(confine) = &self.confine {
            write!(f, " {confine}")?;
        }
        match &self.user {
            Some(user) => write!(f, " uid {}", user.as_str()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Listen {
        text.parse().unwrap()
    }

    fn described(listen: &[&str], confine: Option<Confine>, user: Option<&str>) -> Description {
        let listen = listen.iter().map(|text| text.parse().unwrap());
        Description { confine, user: user.map(|user| user.parse().unwrap()), ..Description::new(listen).unwrap() }
    }

    fn unit(name: &str) -> Option<Confine> {
        Some(Confine::Unit(name.parse().unwrap()))
    }

    fn cgroup(path: &str) -> Option<Confine> {
        Some(Confine::Cgroup(path.parse().unwrap()))
    }

    #[test]
    fn forms() {
        for text in ["tcp:127.0.0.1:8080", "udp:[::1]:53", "tcp:*:80", "tcp:0.0.0.0:80", "udp:[::]:53", "tcp:*:*"] {
            assert_eq!(listen(text).to_string(), text);
        }
        assert_eq!(listen("tcp:[::ffff:192.0.2.1]:80").to_string(), "tcp:192.0.2.1:80");
        for text in ["80", "tcp:80", "tcp:*", "tcp:*:", "tcp:*:http", "tcp:1.2.3:80", "tcp:*:65536", "udp:*:*"] {
            assert_eq!(text.parse::<Listen>(), Err(DescriptionError::Listen(text.into())));
        }
        assert!(matches!("sctp:*:80".parse::<Listen>(), Err(DescriptionError::Protocol(_))));
        assert!(matches!("tcp:*:0".parse::<Listen>(), Err(DescriptionError::Zero(_))));
        assert_eq!(Description::new([]), Err(DescriptionError::Empty));
    }

    #[test]
    fn a_wildcard_socket_is_not_one_of_an_address() {
        let local = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(listen("tcp:127.0.0.1:80").matches(Protocol::Tcp, local("127.0.0.1:80")));
        assert!(listen("tcp:127.0.0.1:80").matches(Protocol::Tcp, local("[::ffff:127.0.0.1]:80")));
        assert!(!listen("tcp:127.0.0.1:80").matches(Protocol::Tcp, local("0.0.0.0:80")));
        assert!(!listen("tcp:0.0.0.0:80").matches(Protocol::Tcp, local("[::]:80")));
        assert!(listen("tcp:*:80").matches(Protocol::Tcp, local("[::]:80")));
        assert!(!listen("tcp:*:80").matches(Protocol::Udp, local("[::]:80")));
    }

    #[test]
    fn descriptions_that_could_claim_one_socket() {
        let overlap = |a: &Description, b: &Description| a.overlap(b).map(|listen| listen.to_string());
        let any = described(&["tcp:*:80"], None, None);
        let one = described(&["udp:*:80", "tcp:127.0.0.1:80"], None, None);
        assert_eq!(overlap(&any, &one).as_deref(), Some("tcp:127.0.0.1:80"));
        assert_eq!(overlap(&any, &described(&["tcp:*:81", "udp:*:80"], None, None)), None);
        let all = described(&["tcp:*:*"], None, None);
        assert_eq!(overlap(&all, &one).as_deref(), Some("tcp:127.0.0.1:80"));
        assert_eq!(overlap(&all, &described(&["udp:*:80"], None, None)), None);
        let www = described(&["tcp:*:80"], None, Some("www"));
        assert_eq!(overlap(&www, &described(&["tcp:*:80"], None, Some("web"))), None);
        assert!(overlap(&www, &any).is_some());
        assert!(overlap(&www, &described(&["tcp:*:80"], None, Some("33"))).is_some());
        let at = |confine| described(&["tcp:*:80"], confine, None);
        assert_eq!(overlap(&at(unit("a.service")), &at(unit("b.service"))), None);
        assert_eq!(overlap(&at(cgroup("/a/b")), &at(cgroup("/a/c"))), None);
        assert!(overlap(&at(cgroup("/a")), &at(cgroup("/a/c"))).is_some());
        assert!(overlap(&at(unit("a.service")), &at(cgroup("/system.slice"))).is_some());
        assert_eq!(overlap(&at(unit("a.service")), &at(cgroup("/system.slice/b.service"))), None);
    }

    #[test]
    fn names() {
        assert!("nginx".parse::<UnitName>().is_err() && ".service".parse::<UnitName>().is_err());
        assert!("getty@tty1.service".parse::<UnitName>().is_ok());
        for path in ["", "a", "/", "//a", "/a//b", "/a/../b", "/a/./b"] {
            assert_eq!(path.parse::<CgroupPath>(), Err(DescriptionError::Cgroup(path.into())), "{path}");
        }
        assert_eq!("/a/b/".parse::<CgroupPath>().unwrap().as_str(), "/a/b");
        assert!(matches!("/1/2/3/4/5/6/7/8/9".parse::<CgroupPath>(), Err(DescriptionError::Deep(_))));
        assert!("a b".parse::<UserName>().is_err());
    }
}
