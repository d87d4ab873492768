//! The small changes: rules come and go, services are made, described and removed.
//!
//! Each changes a [`Builder`], within [`Instance::edit`]. The methods of [`Instance`] of the same names are for one
//! change with the usual options.

use inlet_core::{Answers, Builder, Description, Listen, OnMissing, Rule, Selector, ServiceName, Target, Verdict};

use super::{CommitOptions, Committed, Instance};
use crate::described::check_there;
use crate::error::{Error, Result};

/// What is asked of a service; what is absent stays as it is.
#[derive(Clone, Debug, Default)]
pub struct ServiceRequest {
    /// What happens without a live socket.
    pub on_missing: Option<OnMissing>,
    /// Where its answers over UDP leave from.
    pub answers: Option<Answers>,
    /// Which sockets it has; the inner `None` leaves them to be registered by hand.
    pub description: Option<Option<Description>>,
    /// Whether the unit, control group and user of the description need not be there yet.
    pub later: bool,
}

/// Adds the rules that `selector` stands for, or replaces the verdicts of those with the same match: their previous
/// verdicts are in the plan.
///
/// # Errors
/// [`Error::Build`] when one ties with another rule.
pub fn bind(builder: &mut Builder, target: &Target, selector: &Selector) -> Result<()> {
    let verdict = target.verdict(builder)?;
    bind_verdict(builder, verdict, selector)
}

/// [`bind`] to the service that is named after an address and has the sockets there.
///
/// # Errors
/// As for [`bind`], and [`Error::Service`] when no number is left for the service.
pub fn bind_to(builder: &mut Builder, listen: Listen, selector: &Selector) -> Result<()> {
    let name: ServiceName = listen.to_string().parse()?;
    let id = builder.service(&name)?;
    if builder.services().get(id).is_some_and(|service| service.description.is_none()) {
        builder.set_description(id, Some(Description::new([listen])?));
    }
    bind_verdict(builder, Verdict::Service(id), selector)
}

fn bind_verdict(builder: &mut Builder, verdict: Verdict, selector: &Selector) -> Result<()> {
    for matching in selector.matches(builder)? {
        builder.remove(&matching);
        builder.push(&Rule { matching, verdict })?;
    }
    Ok(())
}

/// Removes the rules that `selector` stands for, all or none.
///
/// # Errors
/// [`Error::NoRule`] when one of them is not there.
pub fn unbind(builder: &mut Builder, selector: &Selector) -> Result<()> {
    let all = selector.matches(builder)?;
    let missing = all.iter().any(|matching| builder.remove(matching).is_none());
    if missing { Err(Error::NoRule(selector.to_string())) } else { Ok(()) }
}

/// Sets what is asked of a service, which is made when there is none of this name. Sockets that its description means
/// are adopted, those that exist and those that come.
///
/// # Errors
/// [`Error::Service`] when no number is left, and what is wrong with what a description names:
/// [`crate::DescribeError::NoUnit`], [`crate::DescribeError::NoCgroup`], [`crate::DescribeError::UnknownUser`],
/// [`crate::DescribeError::NoCgroups`].
pub fn set_service(builder: &mut Builder, name: &ServiceName, request: ServiceRequest) -> Result<()> {
    if let Some(Some(description)) = request.description.as_ref().filter(|_| !request.later) {
        check_there(description)?;
    }
    let id = builder.service(name)?;
    if let Some(on_missing) = request.on_missing {
        builder.set_on_missing(id, on_missing);
    }
    if request.answers.is_some() {
        builder.set_answers(id, request.answers);
    }
    if let Some(description) = request.description {
        builder.set_description(id, description);
    }
    Ok(())
}

/// Removes a service that no rule names. Its sockets go with it once nobody can go back to it.
///
/// # Errors
/// [`Error::UnknownService`], and [`Error::Build`] while rules name it.
pub fn remove_service(builder: &mut Builder, name: &str) -> Result<()> {
    let id = builder.services().id(name).ok_or_else(|| Error::UnknownService(name.to_owned()))?;
    builder.remove_service(id)?;
    Ok(())
}

impl Instance {
    /// [`bind`], as a change of its own.
    ///
    /// # Errors
    /// As there, and those of [`Instance::edit`].
    pub fn bind(&mut self, target: &Target, selector: &Selector) -> Result<Committed> {
        self.edit(&CommitOptions::default(), |builder| bind(builder, target, selector))
    }

    /// [`bind_to`], as a change of its own.
    ///
    /// # Errors
    /// As there, and those of [`Instance::edit`].
    pub fn bind_to(&mut self, listen: Listen, selector: &Selector) -> Result<Committed> {
        self.edit(&CommitOptions::default(), |builder| bind_to(builder, listen, selector))
    }

    /// [`unbind`], as a change of its own.
    ///
    /// # Errors
    /// As there, and those of [`Instance::edit`].
    pub fn unbind(&mut self, selector: &Selector) -> Result<Committed> {
        self.edit(&CommitOptions::default(), |builder| unbind(builder, selector))
    }

    /// [`set_service`], as a change of its own.
    ///
    /// # Errors
    /// As there, and those of [`Instance::edit`].
    pub fn set_service(&mut self, name: &ServiceName, request: ServiceRequest) -> Result<Committed> {
        self.edit(&CommitOptions::default(), |builder| set_service(builder, name, request))
    }

    /// [`remove_service`], as a change of its own.
    ///
    /// # Errors
    /// As there, and those of [`Instance::edit`].
    pub fn remove_service(&mut self, name: &str) -> Result<Committed> {
        self.edit(&CommitOptions::default(), |builder| remove_service(builder, name))
    }
}
