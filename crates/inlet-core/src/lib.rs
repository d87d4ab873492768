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
mod both;
mod bound;
mod build;
pub mod config;
mod conflict;
mod contest;
mod description;
mod effective;
mod entry;
mod iface;
pub mod image;
pub mod import;
mod local;
mod lookup;
mod name;
mod plan;
mod ports;
mod precedence;
mod prefix;
mod rule;
mod ruleset;
mod selector;
mod service;
mod shadow;
mod traffic;

pub use area::Area;
pub use bound::{Bound, Rank};
pub use build::{BuildError, Builder};
pub use conflict::Conflict;
pub use contest::{Contender, Standing, contest};
pub use description::{
    CgroupPath, Confine, Description, DescriptionError, Listen, ListenAddr, MAX_DEPTH, MAX_NAME, UnitName, UserName,
};
pub use effective::{Claim, EXCEPTIONS, given, kept};
pub use iface::{IfaceId, Interface, InterfaceName, InterfaceNameError};
pub use local::{PrefixSet, steered_prefixes};
pub use lookup::{Packet, lookup};
pub use name::{NameError, ServiceName};
pub use plan::{Change, Plan, ServiceChange};
pub use ports::{PortError, PortRange, Ports};
pub use precedence::{Criterion, Precedence};
pub use prefix::{Prefix, PrefixError};
pub use rule::{Match, Protocol, ProtocolError, Rule, Verdict};
pub use ruleset::{Kind, Named, Ruleset};
pub use selector::{Selector, Target};
pub use service::{MAX_SERVICES, OnMissing, Service, ServiceError, ServiceId, Services};
pub use shadow::{never_matching, takers};
pub use traffic::{AddrRange, Arrival, Moved, traffic, traffic_at, traffic_to};
