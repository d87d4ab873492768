//! The pure half of Inlet: what a rule is, which rule wins, and how a ruleset becomes the image that the kernel
//! program searches.
//!
//! Nothing here touches a file, a socket, a clock or the kernel. The specification is [`lookup()`]: slow and obvious.
//! The image that [`image::compile`] makes, and the kernel program that walks it, are tested against it.
//!
//! ```
//! use inlet_core::{Builder, Packet, Protocol, Rule, Verdict, lookup};
//!
//! let mut builder = Builder::new();
//! let web = builder.service(&"web".parse()?)?;
//! builder.push(&Rule::new(Protocol::Tcp, "192.0.2.0/24".parse()?, "80".parse()?, Verdict::Service(web)))?;
//! let ruleset = builder.finish()?;
//!
//! let packet = Packet::new(Protocol::Tcp, "192.0.2.7:80".parse()?, "203.0.113.9:40000".parse()?);
//! assert_eq!(lookup(&ruleset, &packet).map(|rule| rule.verdict), Some(Verdict::Service(web)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

#[cfg(feature = "arbitrary")]
pub mod arbitrary;
mod area;
pub mod config;
pub mod image;
mod lookup;
mod remedies;
mod rule;
mod ruleset;
mod threads;
mod traffic;

pub use area::{
    AddrRange, Area, Arrival, Bound, Claim, EXCEPTIONS, PrefixSet, Rank, Reopened, given, kept, never_matching,
    reopened, reopened_by, steered_prefixes, takers,
};
pub use lookup::{Contender, Standing, contest, lookup};
pub use remedies::remedy_of;
pub use rule::{
    CgroupPath, Confine, Criterion, Description, DescriptionError, Endpoint, EndpointError, Family, IfaceId, Interface,
    InterfaceName, InterfaceNameError, Listen, ListenAddr, MAX_DEPTH, MAX_NAME, MAX_SERVICES, Match, NameError,
    OnMissing, Packet, PortError, PortRange, Ports, Precedence, Prefix, PrefixError, Protocol, ProtocolError, Remedy,
    Rule, Service, ServiceError, ServiceId, ServiceName, Services, UnitName, UserName, Verdict,
};
pub use ruleset::{BuildError, Builder, Change, Conflict, Kind, Named, Plan, Ruleset, Selector, ServiceChange, Target};
pub use traffic::{Moved, traffic, traffic_at, traffic_to};
