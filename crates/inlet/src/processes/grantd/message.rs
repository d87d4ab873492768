//! What callers and the server write to each other: one message each way, lines of text. Sockets go beside it.

use std::fmt::{self, Write};
use std::str::FromStr;

use inlet_core::{Selector, ServiceName};

use crate::error::GrantedError;

/// The longest message, in bytes.
pub(super) const MAX_BYTES: usize = 8192;
/// The most sockets of one message.
pub(super) const MAX_SOCKETS: usize = 32;
/// The first line of every request: another version may mean other things by the rest.
const VERSION: &str = "inlet 1";

/// What a caller asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The sockets that go beside it get packets of the service.
    Register(ServiceName),
    /// The sockets that go beside it get none any more.
    Unregister(ServiceName),
    /// Rules are added to the service.
    Bind(ServiceName, Selector),
    /// Rules are removed.
    Unbind(Selector),
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The generation in force, when rules were asked for.
    pub generation: Option<u64>,
    /// What was done, in words.
    pub lines: Vec<String>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Done(Done),
    Refused {
        message: String,
        fix: Option<String>,
    },
    /// So many requests of the caller are under way that this one was not read.
    Busy,
}

impl Ask {
    /// Whether sockets go beside it.
    pub(super) fn has_sockets(&self) -> bool {
        matches!(self, Self::Register(_) | Self::Unregister(_))
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = format!("{VERSION}\n");
        // Writing to a string does not fail.
        let _ = match self {
            Self::Register(service) => write!(text, "register\nservice={service}"),
            Self::Unregister(service) => write!(text, "unregister\nservice={service}"),
            Self::Bind(service, selector) => write!(text, "bind\nservice={service}\n{}", Written(selector)),
            Self::Unbind(selector) => write!(text, "unbind\n{}", Written(selector)),
        };
        text
    }

    /// Reads a request; every value by the rules that hold for it anywhere.
    pub(super) fn parse(text: &str) -> Result<Self, GrantedError> {
        let mut lines = text.split('\n');
        if lines.next() != Some(VERSION) {
            return Err(GrantedError::Malformed("it is not of version 1"));
        }
        let what = lines.next().unwrap_or_default();
        let mut fields = Fields::default();
        lines.try_for_each(|line| fields.take(line))?;
        let ask = match what {
            "register" => Self::Register(needed(fields.service.take())?),
            "unregister" => Self::Unregister(needed(fields.service.take())?),
            "bind" => Self::Bind(needed(fields.service.take())?, fields.selector()?),
            "unbind" => Self::Unbind(fields.selector()?),
            _ => return Err(GrantedError::Malformed("it asks for neither register, unregister, bind nor unbind")),
        };
        match fields == Fields::default() {
            true => Ok(ask),
            false => Err(GrantedError::Malformed("it has a field that does not belong there")),
        }
    }
}

/// The fields of a selector, a line each.
struct Written<'a>(&'a Selector);

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Selector { protocol, local, ports, source, iface, mark } = self.0;
        write!(f, "protocol={protocol}\nlocal={local}\nports={ports}")?;
        if let Some(source) = source {
            write!(f, "\nfrom={source}")?;
        }
        if let Some(iface) = iface {
            write!(f, "\niface={iface}")?;
        }
        mark.map_or(Ok(()), |mark| write!(f, "\nmark={mark}"))
    }
}

#[derive(Default, PartialEq, Eq)]
struct Fields {
    service: Option<ServiceName>,
    protocol: Option<inlet_core::Protocol>,
    local: Option<inlet_core::Prefix>,
    ports: Option<inlet_core::Ports>,
    source: Option<inlet_core::Prefix>,
    iface: Option<inlet_core::InterfaceName>,
    mark: Option<inlet_core::Mark>,
}

impl Fields {
    fn take(&mut self, line: &str) -> Result<(), GrantedError> {
        let (key, value) = line.split_once('=').ok_or(GrantedError::Malformed("a line is no field"))?;
        match key {
            "service" => put(&mut self.service, value),
            "protocol" => put(&mut self.protocol, value),
            "local" => put(&mut self.local, value),
            "ports" => put(&mut self.ports, value),
            "from" => put(&mut self.source, value),
            "iface" => put(&mut self.iface, value),
            "mark" => put(&mut self.mark, value),
            _ => Err(GrantedError::Malformed("it has an unknown field")),
        }
    }

    fn selector(&mut self) -> Result<Selector, GrantedError> {
        Ok(Selector {
            protocol: needed(self.protocol.take())?,
            local: needed(self.local.take())?,
            ports: needed(self.ports.take())?,
            source: self.source.take(),
            iface: self.iface.take(),
            mark: self.mark.take(),
        })
    }
}

fn put<T: FromStr>(field: &mut Option<T>, value: &str) -> Result<(), GrantedError> {
    let value = value.parse().map_err(|_| GrantedError::Malformed("a field has a bad value"))?;
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(GrantedError::Malformed("a field is there twice")),
    }
}

fn needed<T>(field: Option<T>) -> Result<T, GrantedError> {
    field.ok_or(GrantedError::Malformed("a field is missing"))
}

impl Answer {
    pub(super) fn to_text(&self) -> String {
        let line = |text: &str| text.replace('\n', " ");
        let mut text = match self {
            Self::Busy => "busy".to_owned(),
            Self::Refused { message, fix } => {
                format!("refused\n{}\n{}", line(message), line(fix.as_deref().unwrap_or_default()))
            }
            Self::Done(Done { generation, lines }) => {
                let generation = generation.map_or_else(String::new, |generation| generation.to_string());
                let lines: Vec<String> = lines.iter().map(|text| line(text)).collect();
                format!("done\n{generation}\n{}", lines.join("\n"))
            }
        };
        let end = (0..=MAX_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text
    }

    /// Reads an answer; `None` when it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let mut lines = text.split('\n');
        match lines.next()? {
            "busy" => Some(Self::Busy),
            "refused" => {
                let message = lines.next()?.to_owned();
                Some(Self::Refused { message, fix: lines.next().and_then(given) })
            }
            "done" => {
                let generation = given(lines.next()?).map(|text| text.parse()).transpose().ok()?;
                let lines = lines.filter_map(given).collect();
                Some(Self::Done(Done { generation, lines }))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(more: bool) -> Selector {
        Selector {
            protocol: inlet_core::Protocol::Udp,
            local: "2001:db8::/64".parse().unwrap(),
            ports: "53,8000-8999".parse().unwrap(),
            source: more.then(|| "2001:db8:1::/48".parse().unwrap()),
            iface: more.then(|| "eth0".parse().unwrap()),
            mark: more.then(|| "0x1/0xff".parse().unwrap()),
        }
    }

    #[test]
    fn requests_come_back() {
        let service = || "web =\u{e4}".parse::<ServiceName>().unwrap();
        for more in [false, true] {
            let rules = [Ask::Bind(service(), selector(more)), Ask::Unbind(selector(more))];
            for ask in [Ask::Register(service()), Ask::Unregister(service())].into_iter().chain(rules) {
                assert_eq!(Ask::parse(&ask.to_text()).unwrap(), ask);
            }
        }
    }

    #[test]
    fn what_is_no_request() {
        let all = [
            "",
            "inlet 1",
            "inlet 2\nregister\nservice=web",
            "inlet 1\nregister",
            "inlet 1\nregister\nservice=",
            "inlet 1\nregister\nservice=web\nservice=web",
            "inlet 1\nregister\nservice=web\nlocal=192.0.2.0/24",
            "inlet 1\nregister\nservice=web\n",
            "inlet 1\nunregister",
            "inlet 1\nbind\nservice=web\nprotocol=tcp\nlocal=192.0.2.1/24\nports=80",
            "inlet 1\nbind\nservice=web\nprotocol=tcp\nlocal=192.0.2.0/24\nports=0",
            "inlet 1\nbind\nprotocol=tcp\nlocal=192.0.2.0/24\nports=80",
            "inlet 1\nunbind\nservice=web\nprotocol=tcp\nlocal=192.0.2.0/24\nports=80",
            "inlet 1\ndown",
        ];
        all.iter().for_each(|text| assert!(Ask::parse(text).is_err(), "{text:?}"));
    }

    #[test]
    fn answers_come_back() {
        let lines = vec!["one".to_owned(), "two".to_owned()];
        let done = |generation| Answer::Done(Done { generation, lines: lines.clone() });
        let refused = |fix| Answer::Refused { message: "no".to_owned(), fix };
        for answer in [done(None), done(Some(7)), refused(None), refused(Some("do".to_owned())), Answer::Busy] {
            assert_eq!(Answer::parse(&answer.to_text()), Some(answer));
        }
        let long = Answer::Refused { message: "\u{e4}".repeat(MAX_BYTES), fix: None };
        assert!(long.to_text().len() <= MAX_BYTES);
    }
}
