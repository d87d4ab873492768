//! The JSON form of a ruleset, as `inlet apply` reads and `inlet export` writes it.
//!
//! ```json
//! {"services": {"web": {"on_missing": "refuse"}, "proxy": {}},
//!  "rules": [
//!   {"to": "web", "protocol": "tcp", "local": ["192.0.2.0/24", "2001:db8::/64"], "ports": ["80", "8000-8999"]},
//!   {"to": "proxy", "protocol": ["tcp", "udp"], "local": "198.51.100.0/24", "ports": "any", "iface": "eth0"},
//!   {"verdict": "pass", "protocol": "tcp", "local": "198.51.100.0/24", "ports": 22}]}
//! ```
//!
//! A rule has `to` (a service that `services` lists) or `verdict` (`pass`, `refuse`); `protocol`, `local`, `ports` and
//! `from` take one value or a list; `from` and `iface` may be absent. A rule with lists is the set of its
//! single-prefix, single-range rules, each list multiplied with the others.
//!
//! A service may be described: `"listen": ["tcp:127.0.0.1:8080"]`, and with it `"unit": "nginx.service"` or `"cgroup":
//! "/a/b"`, and `"user": "www-data"` (or a number).
//!
//! Prefixes can be kept in sets: `"sets": {"office": ["203.0.113.0/24"], "feed": {"file": "feed.txt"}}` before the rules,
//! and `"@office"` wherever a prefix may stand. A file has one prefix a line; `#` begins a comment.

mod read;
mod sets;
mod write;

pub use read::{ConfigError, parse};
pub use sets::ReadFile;
pub use write::{rule_json, write};
