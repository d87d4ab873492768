//! Described sockets: programs in the kernel that find them for their services, without anything that has to run.
//!
//! Descriptions are part of the ruleset. When a commit changes them, new programs are made for them before its commit
//! point and take the place of the previous ones after it; sockets that exist already are then looked through.

mod find;
mod prepared;
mod programs;
mod refusals;
mod wants;

use inlet_core::{Description, ServiceId, Services};

pub use self::find::{Found, Known};
pub use self::refusals::LastRefusal;
pub use self::wants::Unfound;

pub(crate) use self::find::{Wanted, find, wanted_now};
pub(crate) use self::prepared::{Prepared, wants_of};
pub(crate) use self::programs::{Programs, remove_programs};
pub(crate) use self::refusals::last as last_refusal;
pub(crate) use self::wants::{Wants, check_there, uid_of, unfound};

/// The services that are described.
pub(crate) fn described(services: &Services) -> impl Iterator<Item = (ServiceId, &Description)> {
    services.iter().filter_map(|(id, service)| Some((id, service.description.as_ref()?)))
}
