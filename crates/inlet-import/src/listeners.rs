//! The listeners of a host, as `ss -lntup` writes them.

use std::net::IpAddr;

use inlet_core::Protocol;

use crate::ImportError;

/// A TCP listener, or a UDP socket that is not connected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// Its protocol.
    pub protocol: Protocol,
    /// The address that it is bound to; an IPv4-mapped one counts as the IPv4 one.
    pub addr: IpAddr,
    /// The port, 1 to 65535.
    pub port: u16,
    /// Whether it is of IPv6 only.
    pub v6only: bool,
    /// Whether it has `IP_TRANSPARENT`; `None`: not known.
    pub transparent: Option<bool>,
    /// The program that has it, when that is known.
    pub program: Option<String>,
}

/// Reads what `ss -lntup` writes. Lines of other protocols count for nothing.
///
/// # Errors
/// [`ImportError::Sockets`] for the first line that is none of `ss`.
pub fn listeners(text: &str) -> Result<Vec<Listener>, ImportError> {
    let mut found = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [protocol, state, rest @ ..] = words.as_slice() else {
            match words.is_empty() {
                true => continue,
                false => return Err(ImportError::Sockets(number)),
            }
        };
        let protocol = match *protocol {
            "Netid" => continue,
            "tcp" | "mptcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ if rest.len() >= 4 => continue,
            _ => return Err(ImportError::Sockets(number)),
        };
        let socket = match (*state, rest) {
            ("LISTEN" | "UNCONN", [_, _, local, _, more @ ..]) => socket(protocol, local, more),
            _ => None,
        };
        found.push(socket.ok_or(ImportError::Sockets(number))?);
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn socket(protocol: Protocol, local: &str, more: &[&str]) -> Option<Listener> {
    let (addr, port) = local.rsplit_once(':')?;
    // An interface may stand behind the address.
    let addr = addr.split('%').next().unwrap_or_default();
    let addr = addr.trim_start_matches('[').trim_end_matches(']');
    let both = addr == "*";
    let addr: IpAddr =
        if both { std::net::Ipv6Addr::UNSPECIFIED.into() } else { addr.parse::<IpAddr>().ok()?.to_canonical() };
    let program = more.iter().find_map(|word| word.strip_prefix("users:((\"")?.split('"').next());
    Some(Listener {
        protocol,
        addr,
        port: port.parse().ok().filter(|port| *port > 0)?,
        v6only: !both && addr.is_ipv6(),
        transparent: None,
        program: program.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ss() {
        let text = "Netid State  Recv-Q Send-Q Local Address:Port Peer Address:PortProcess\n\
            udp   UNCONN 0      0      127.0.0.53%lo:53   0.0.0.0:*    users:((\"systemd-resolve\",pid=1,fd=2))\n\
            tcp   LISTEN 0      4096         0.0.0.0:22   0.0.0.0:*    users:((\"sshd\",pid=1,fd=3))\n\
            tcp   LISTEN 0      4096               *:80         *:*\n\
            tcp   LISTEN 0      4096            [::]:22      [::]:*\n\
            tcp   LISTEN 0      4096     [fe80::1]%eth0:25   [::]:*\n";
        let all = listeners(text).unwrap();
        let short: Vec<String> =
            all.iter().map(|it| format!("{} {} {} {}", it.protocol, it.addr, it.port, it.v6only)).collect();
        assert_eq!(
            short,
            [
                "tcp 0.0.0.0 22 false",
                "tcp :: 22 true",
                "tcp :: 80 false",
                "tcp fe80::1 25 true",
                "udp 127.0.0.53 53 false"
            ]
        );
        assert_eq!(all[4].program.as_deref(), Some("systemd-resolve"));
        assert!(matches!(listeners("tcp LISTEN 0 1 web:http *:*"), Err(ImportError::Sockets(1))));
        assert!(matches!(listeners("\nhello world"), Err(ImportError::Sockets(2))));
    }
}
