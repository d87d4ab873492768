//! Descriptions: a service says once which sockets belong to it, and they are found again after every restart.

use std::fmt;

use super::{CgroupPath, DescriptionError, Endpoint, InterfaceName, Listen, UnitName, UserName};

/// Which sockets belong to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    listen: Vec<Listen>,
    /// The control group of the process that makes the socket.
    pub confine: Option<Confine>,
    /// The user who owns the socket.
    pub user: Option<UserName>,
    /// Said by who means sockets of any user, so that nobody is warned of them. It changes nothing else.
    pub anyone: bool,
    /// Whether programs of this control group and user get plain TCP when they ask for multipath TCP.
    pub no_mptcp: bool,
    /// Whether these addresses are those that programs of the control group ask for: bind() moves them to ports of
    /// their own, and packets reach them by rules alone.
    pub own_binds: bool,
}

/// A control group (cgroup v2) with all groups below it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Confine {
    /// The group of a unit of the system's systemd, such as `nginx.service`.
    Unit(UnitName),
    /// The group with this path below the cgroup v2 root.
    Cgroup(CgroupPath),
}

impl Description {
    /// Describes sockets at these addresses, of any user and any control group.
    ///
    /// # Errors
    /// [`DescriptionError::Empty`] when there is none.
    pub fn new(listen: impl IntoIterator<Item = Listen>) -> Result<Self, DescriptionError> {
        let mut listen: Vec<Listen> = listen.into_iter().collect();
        listen.sort_unstable();
        listen.dedup();
        match listen.is_empty() {
            true => Err(DescriptionError::Empty),
            false => Ok(Self { listen, confine: None, user: None, anyone: false, no_mptcp: false, own_binds: false }),
        }
    }

    /// The addresses, in order, each once.
    pub fn listen(&self) -> &[Listen] {
        &self.listen
    }

    /// The interfaces that its addresses name.
    pub fn devices(&self) -> impl Iterator<Item = InterfaceName> {
        self.listen.iter().filter_map(|listen| listen.device())
    }

    /// Whether one of its addresses means a socket that is bound there.
    pub fn is_at(&self, socket: &Endpoint) -> bool {
        self.listen.iter().any(|listen| listen.matches(socket))
    }

    /// Whether it means all listeners of the host, including the host's own ones.
    pub fn is_boundless(&self) -> bool {
        self.confine.is_none() && self.listen.contains(&Listen::ALL_TCP)
    }

    /// Whether nothing but the address tells its sockets from those of any local user.
    pub fn is_open(&self) -> bool {
        self.confine.is_none() && self.user.is_none()
    }

    /// Whether it would keep every program of the host from multipath TCP.
    pub fn is_plain_for_all(&self) -> bool {
        self.no_mptcp && self.is_open()
    }

    /// Whether it would move what every program of the host binds.
    pub fn is_own_for_all(&self) -> bool {
        self.own_binds && self.confine.is_none()
    }

    /// Whether it means UDP sockets of all ports, without own binds, by which servers are told from clients.
    pub fn is_vague(&self) -> bool {
        !self.own_binds && self.listen.contains(&Listen::ALL_UDP)
    }

    /// An address at which both descriptions could claim the same socket. Different users or control groups keep them
    /// apart.
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

impl Confine {
    /// Whether no process can be in both.
    fn apart(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unit(a), Self::Unit(b)) => a != b,
            (Self::Cgroup(a), Self::Cgroup(b)) => !a.covers(b) && !b.covers(a),
            // The core does not know the group of a unit. A unit whose name is not part of the path is elsewhere.
            (Self::Unit(unit), Self::Cgroup(path)) | (Self::Cgroup(path), Self::Unit(unit)) => {
                let last = path.names().last();
                path.names().all(|name| name != unit.as_str()) && last.is_some_and(|last| !last.ends_with(".slice"))
            }
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

/// The words of the command line without dashes: `listen tcp:127.0.0.1:8080 unit nginx.service`.
impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("listen")?;
        self.listen.iter().try_for_each(|listen| write!(f, " {listen}"))?;
        if let Some(confine) = &self.confine {
            write!(f, " {confine}")?;
        }
        if let Some(user) = &self.user {
            write!(f, " user {}", user.as_str())?;
        } else if self.anyone {
            f.write_str(" anyone")?;
        }
        if self.no_mptcp {
            f.write_str(" no-mptcp")?;
        }
        if self.own_binds { f.write_str(" own-binds") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn one_address_at_least() {
        assert_eq!(Description::new([]), Err(DescriptionError::Empty));
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
}
