//! Described sockets: programs in the kernel that find them for their services, without anything that has to run.
//!
//! Descriptions are part of the ruleset. When a commit changes them, new programs are made for them before its commit
//! point and take the place of the previous ones after it; sockets that exist already are then looked through.

mod claims;
mod find;
mod not_found;
mod prepared;
mod programs;
mod refusals;
mod whole;

use inlet_core::{Description, ServiceId, Services};

pub use self::find::FoundSocket;
pub use self::not_found::NotFound;
pub use self::refusals::LastRefusal;

pub(crate) use self::claims::{Claims, check_there, not_found, uid_of};
pub(crate) use self::find::{Placed, Reported, find, reported_now};
pub(crate) use self::prepared::{Prepared, claims_of};
pub(crate) use self::programs::{Programs, remove_programs};
pub(crate) use self::refusals::last as last_refusal;

/// The services that are described.
pub(crate) fn described(services: &Services) -> impl Iterator<Item = (ServiceId, &Description)> {
    services.iter().filter_map(|(id, service)| Some((id, service.description.as_ref()?)))
}
