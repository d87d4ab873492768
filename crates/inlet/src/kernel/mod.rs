//! The ground: what is asked of the kernel without knowing of instances. Network namespaces, netlink, capabilities,
//! control groups, and in `raw` the calls that no safe library has.

pub(crate) mod btf;
pub(crate) mod capability;
pub(crate) mod cgroup;
mod links;
mod namespaces;
pub(crate) mod netlink;
mod netns;
#[allow(unsafe_code)]
pub(crate) mod raw;

pub(crate) use self::capability::Capability;
pub(crate) use self::cgroup::Cgroups;
pub(crate) use self::links::{Link, LinkChanges, Links};
pub(crate) use self::namespaces::{Visible, visible};
pub(crate) use self::netlink::Netlink;
pub use self::netns::Netns;
