//! Where the kernel has what it has: by its own description of its types (BTF).

use std::ffi::OsStr;
use std::io;

use libbpf_rs::btf::types::{Enum, MemberAttr, Struct};
use libbpf_rs::btf::{Btf, TypeId};

use crate::error::{Error, KernelError, Result};

/// The offset in bytes of the cookie of a socket.
pub(crate) fn socket_cookie() -> Result<u32> {
    offset("sock_common", "skc_cookie")
}

/// The offset in bytes of what hangs on a socket.
pub(crate) fn socket_user_data() -> Result<u32> {
    offset("sock", "sk_user_data")
}

/// The offset in bits of the flag `IP_TRANSPARENT` of a socket: a field of its own before Linux 6.6, one bit of many since.
/// Bits are counted as little-endian processors do.
pub(crate) fn socket_transparent() -> Result<u32> {
    let btf = kernel()?;
    let bits = |field| bits(&btf, "inet_sock", field);
    let one_of_many = || Some(bits("inet_flags")? + value(&btf, "INET_FLAGS_TRANSPARENT")?);
    bits("transparent").or_else(one_of_many).ok_or_else(|| lacks(io::ErrorKind::Unsupported))
}

fn offset(kind: &str, field: &str) -> Result<u32> {
    match bits(&kernel()?, kind, field) {
        Some(bits) => Ok(bits / u8::BITS),
        None => Err(lacks(io::ErrorKind::Unsupported)),
    }
}

fn kernel() -> Result<Btf<'static>> {
    Btf::from_vmlinux().map_err(|_| lacks(io::ErrorKind::NotFound))
}

fn lacks(kind: io::ErrorKind) -> Error {
    let source = io::Error::from(kind);
    Error::Kernel(KernelError::Feature { what: "description of its types (BTF)", since: "5.4", source })
}

/// The offset of a member in bits.
fn bits(btf: &Btf<'_>, kind: &str, field: &str) -> Option<u32> {
    let kind: Struct<'_> = btf.type_by_name(kind)?;
    let member = kind.iter().find(|member| member.name.and_then(OsStr::to_str) == Some(field))?;
    match member.attr {
        MemberAttr::Normal { offset } | MemberAttr::BitField { offset, .. } => Some(offset),
    }
}

/// The value of an enumerator, whatever it is one of.
fn value(btf: &Btf<'_>, name: &str) -> Option<u32> {
    let mut enums = (1..btf.len()).filter_map(|id| btf.type_by_id::<Enum<'_>>(TypeId::from(id as u32)));
    let value = enums.find_map(|it| {
        let mut members = it.iter();
        members.find(|member| member.name.and_then(OsStr::to_str) == Some(name)).map(|member| member.value)
    });
    u32::try_from(value?).ok()
}
