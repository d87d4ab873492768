//! The pure half of Inlet: what a rule is, which rule wins, and how a ruleset becomes the image that the kernel program
//! searches.
//!
//! Nothing here touches a file, a socket, a clock or the kernel. The specification is [`lookup()`]: slow and obvious.
//! The image that [`image::compile`] makes, and the kernel program that searches it, are tested against it.
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
//!
//! Addresses and ports are in host byte order, lengths of prefixes in bits. Interfaces have the kernel's index, where 0
//! means that there is none. The message of an error says what is wrong; [`Remedy::remedy`] says what to do about it.
//!
//! # Rooms
//!
//! Each room is a module. It imports from the rooms above it in this table, never from those below; `scripts/fences`
//! checks that.
//!
//! | room | holds |
//! | --- | --- |
//! | `threads` | two halves of a call's work at once |
//! | `rule` | names, prefixes, ports, services, descriptions, packets, rules, precedence |
//! | `ruleset` | rulesets, how they are built and stored in memory, conflicts, plans |
//! | `arbitrary` | random rulesets and packets for tests |
//! | `lookup` | the specification, and the story behind its answer |
//! | `area` | packets as areas: what never matches, what a service receives and a socket keeps |
//! | `traffic` | which packets get another answer when one ruleset replaces another |
//! | [`image`] | the format of the image, its compiler, what it stores, and its search in plain Rust |
//! | [`config`] | ruleset files: read and written, with every mistake and its place |
//! | `remedies` | the remedy of an error whose type is erased |
#![forbid(unsafe_code)]
#![deny(clippy::self_named_module_files)]

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

// From the lowest room to the highest.
pub use rule::{
    Answers, CgroupPath, Confine, Criterion, Description, DescriptionError, Endpoint, EndpointError, Family, Grant,
    GrantError, IfaceId, Interface, InterfaceName, InterfaceNameError, Listen, ListenAddr, MAX_DEPTH, MAX_NAME,
    MAX_SERVICES, Mark, MarkError, Match, NameError, OnMissing, Packet, PortError, PortRange, Ports, Precedence,
    Prefix, PrefixError, Protocol, ProtocolError, Remedy, Rule, Service, ServiceError, ServiceId, ServiceName,
    Services, Spread, Sticky, UnitName, UserName, Verdict,
};

pub use ruleset::{BuildError, Builder, Change, Conflict, Kind, Named, Plan, Ruleset, Selector, ServiceChange, Target};

pub use lookup::{Contender, Standing, contest, lookup};

pub use area::{
    AddrRange, Area, Arrival, Bound, Claim, EXCEPTIONS, Marks, PrefixSet, Rank, Reopened, given, kept, never_matching,
    reopened, reopened_by, steered_prefixes, takers,
};

pub use traffic::{Moved, traffic, traffic_at, traffic_to};

pub use remedies::remedy_of;
