//! Where the kernel has what it has: by its own description of its types (BTF).

use std::ffi::OsStr;
use std::io;

use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{MemberAttr, Struct};

use crate::error::{Error, KernelError, Result};

/// The offset in bytes of the cookie of a socket.
pub(crate) fn socket_cookie() -> Result<u32> {
    offset("sock_common", "skc_cookie")
}

/// The offset in bytes of what hangs on a socket.
pub(crate) fn socket_user_data() -> Result<u32> {
    offset("sock", "sk_user_data")
}

fn offset(kind: &str, field: &str) -> Result<u32> {
    let lacks = |cause| {
        Error::Kernel(KernelError::Feature { what: "description of its types (BTF)", since: "5.4", source: cause })
    };
    let btf = Btf::from_vmlinux().map_err(|_| lacks(io::Error::from(io::ErrorKind::NotFound)))?;
    let kind: Option<Struct<'_>> = btf.type_by_name(kind);
    let mut offset = None;
    for member in kind.iter().flat_map(|kind| kind.iter()) {
        if let (Some(name), MemberAttr::Normal { offset: bits }) = (member.name.and_then(OsStr::to_str), member.attr)
            && name == field
        {
            offset = Some(bits / u8::BITS);
        }
    }
    match offset {
        Some(offset) => Ok(offset),
        None => Err(lacks(io::Error::from(io::ErrorKind::Unsupported))),
    }
}
