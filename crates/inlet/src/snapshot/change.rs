//! The small changes, as they are asked for: rules come and go, services are made, described and removed. What becomes
//! of a ruleset by one is the same for those who look ahead and for those who carry it out.

use inlet_core::{
    Answers, Builder, Description, Interface, Listen, OnMissing, Rule, Selector, ServiceId, ServiceName, Spread,
    Sticky, Target, Verdict,
};

use crate::described::check_there;
use crate::error::{DescribeError, Error, Result};
use crate::kernel::Netns;

/// A change of a few rules, or of a service.
#[derive(Clone, Debug)]
pub enum Edit {
    /// Rules are added, or the verdicts of those with the same match replaced.
    Bind(Target, Selector),
    /// The same, to the service that is named after an address and has the sockets there.
    BindTo(Listen, Selector),
    /// Rules are removed, all or none.
    Unbind(Selector),
    /// What is asked of a service, which is made when there is none of this name.
    SetService(ServiceName, ServiceRequest),
    /// A service that no rule names is removed.
    RemoveService(String),
}

/// What is asked of a service; what is absent stays as it is.
#[derive(Clone, Debug, Default)]
pub struct ServiceRequest {
    /// What happens without a live socket.
    pub on_missing: Option<OnMissing>,
    /// Who chooses among its live sockets.
    pub spread: Option<Spread>,
    /// Where its answers over UDP leave from.
    pub answers: Option<Answers>,
    /// For how long its flows over UDP stay on their sockets.
    pub sticky: Option<Sticky>,
    /// Which sockets it has; the inner `None` leaves them to be registered by hand.
    pub description: Option<Option<Description>>,
    /// Whether its programs get plain TCP when they ask for multipath TCP. It is a part of the description.
    pub no_mptcp: Option<bool>,
    /// Whether its programs have own binds. It is a part of the description.
    pub own_binds: Option<bool>,
    /// Whether the unit, control group and user of the description need not be there yet.
    pub later: bool,
}

impl Edit {
    /// Fails when it names what is not there on the host, or cannot mean what it says.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::BindTo(listen, selector) if listen.protocol() != selector.protocol => {
                Err(Error::Describe(DescribeError::OtherProtocol { listen: *listen, protocol: selector.protocol }))
            }
            Self::SetService(_, ServiceRequest { description: Some(Some(description)), later: false, .. }) => {
                check_there(description)
            }
            _ => Ok(()),
        }
    }

    /// Makes the change in a builder that holds what is in force.
    pub(crate) fn make(&self, builder: &mut Builder) -> Result<()> {
        match self {
            Self::Bind(target, selector) => {
                let verdict = target.verdict(builder)?;
                put(builder, selector, verdict)
            }
            Self::BindTo(listen, selector) => {
                let name: ServiceName = listen.to_string().parse()?;
                let id = builder.service(&name)?;
                if builder.services().get(id).is_some_and(|service| service.description.is_none()) {
                    builder.set_description(id, Some(Description::new([*listen])?));
                }
                put(builder, selector, Verdict::Service(id))
            }
            Self::Unbind(selector) => {
                let all = selector.matches(builder)?;
                let missing = all.iter().any(|matching| builder.remove(matching).is_none());
                if missing { Err(Error::NoRule(selector.to_string())) } else { Ok(()) }
            }
            Self::SetService(name, request) => {
                let id = builder.service(name)?;
                if let Some(on_missing) = request.on_missing {
                    builder.set_on_missing(id, on_missing);
                }
                if let Some(spread) = request.spread {
                    builder.set_spread(id, spread);
                }
                if request.answers.is_some() {
                    builder.set_answers(id, request.answers);
                }
                if let Some(sticky) = request.sticky {
                    builder.set_sticky(id, sticky);
                }
                if let Some(description) = &request.description {
                    builder.set_description(id, description.clone());
                }
                if let Some(no_mptcp) = request.no_mptcp {
                    describe(builder, id, ("--no-mptcp", no_mptcp), |description| description.no_mptcp = no_mptcp)?;
                }
                if let Some(own_binds) = request.own_binds {
                    describe(builder, id, ("--own-binds", own_binds), |description| description.own_binds = own_binds)?;
                }
                Ok(())
            }
            Self::RemoveService(name) => {
                let id = builder.services().id(name).ok_or_else(|| Error::UnknownService(name.clone()))?;
                Ok(builder.remove_service(id).map(drop)?)
            }
        }
    }
}

/// Changes a part of the description that is there, which an option turns on or off.
fn describe(
    builder: &mut Builder,
    id: ServiceId,
    (option, is_on): (&'static str, bool),
    change: impl FnOnce(&mut Description),
) -> Result<()> {
    let Some(service) = builder.services().get(id) else { return Ok(()) };
    let (service, description) = (service.name.to_string(), service.description.clone());
    match description {
        Some(mut description) => {
            change(&mut description);
            builder.set_description(id, Some(description));
        }
        None if is_on => return Err(DescribeError::NotDescribed { service, option }.into()),
        None => {}
    }
    Ok(())
}

fn put(builder: &mut Builder, selector: &Selector, verdict: Verdict) -> Result<()> {
    for matching in selector.matches(builder)? {
        builder.remove(&matching);
        builder.push(&Rule { matching, verdict })?;
    }
    Ok(())
}

/// Looks up the index of every interface that the rules of a builder name; those that are known may be gone.
pub(crate) fn resolve_interfaces(builder: &mut Builder, netns: &Netns, known: &[Interface]) -> Result<()> {
    let index = |interface: &Interface| netns.index_of(&interface.name, known);
    let mut indexes = builder.interfaces().iter().map(index).collect::<Result<Vec<u32>>>()?.into_iter();
    builder.resolve_interfaces(|_| indexes.next().unwrap_or(0));
    Ok(())
}
