//! The interface behind an address, as sockets have it: `[fe80::1%eth0]:53`, `127.0.0.1%lo:80`, `*%eth0:80`.

use std::net::SocketAddr;

use super::InterfaceName;

/// An address with a port, without its interface; and that. `None` when the interface has no name that one can have.
pub(super) fn split_zone(text: &str) -> Option<(String, Option<InterfaceName>)> {
    let end = if text.starts_with('[') { text.rfind("]:")? } else { text.rfind(':')? };
    match text[..end].split_once('%') {
        None => Some((text.to_owned(), None)),
        Some((addr, zone)) => Some((format!("{addr}{}", &text[end..]), Some(zone.parse().ok()?))),
    }
}

/// An address with a port and the interface.
pub(super) fn with_zone(addr: SocketAddr, device: Option<InterfaceName>) -> String {
    match (addr, device) {
        (addr, None) => addr.to_string(),
        (SocketAddr::V4(addr), Some(device)) => format!("{}%{device}:{}", addr.ip(), addr.port()),
        (SocketAddr::V6(addr), Some(device)) => format!("[{}%{device}]:{}", addr.ip(), addr.port()),
    }
}
