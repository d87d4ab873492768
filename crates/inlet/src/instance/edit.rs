//! The small changes: rules come and go, services are made, described and removed.

use inlet_core::{Description, Listen, OnMissing, Rule, Selector, ServiceName, Target, Verdict};

use super::{Committed, Instance};
use crate::error::{Error, Result};

/// What is asked of a service; what is absent stays as it is.
#[derive(Clone, Debug, Default)]
pub struct ServiceRequest {
    /// What happens without a live socket.
    pub on_missing: Option<OnMissing>,
    /// Which sockets it has; the inner `None` leaves them to be registered by hand.
    pub description: Option<Option<Description>>,
    /// Whether the unit, control group and user of the description need not be there yet.
    pub later: bool,
}

impl Instance {
    /// Adds the rules that `selector` stands for, or replaces the verdicts of those with the same match: their former
    /// verdicts are in the plan.
    ///
    /// # Errors
    /// [`Error::Build`] when one ties with another rule, [`crate::KernelError::UnknownInterface`].
    pub fn bind(&mut self, target: &Target, selector: &Selector) -> Result<Committed> {
        self.edit(|builder| {
            let verdict = target.verdict(builder)?;
            for matching in selector.matches(builder)? {
                builder.remove(&matching);
                builder.push(&Rule { matching, verdict })?;
            }
            Ok(())
        })
    }

    /// [`Instance::bind`] to the service that is named after an address and has the sockets there.
    ///
    /// # Errors
    /// As for [`Instance::bind`], and those of [`Instance::set_service`].
    pub fn bind_to(&mut self, listen: Listen, selector: &Selector) -> Result<Committed> {
        let name: ServiceName = listen.to_string().parse()?;
        self.edit(|builder| {
            let id = builder.service(&name)?;
            if builder.services().get(id).is_some_and(|service| service.description.is_none()) {
                builder.set_description(id, Some(Description::new([listen])?));
            }
            for matching in selector.matches(builder)? {
                builder.remove(&matching);
                builder.push(&Rule { matching, verdict: Verdict::Service(id) })?;
            }
            Ok(())
        })
    }

    /// Removes the rules that `selector` stands for, all or none.
    ///
    /// # Errors
    /// [`Error::NoRule`] when one of them is not there.
    pub fn unbind(&mut self, selector: &Selector) -> Result<Committed> {
        self.edit(|builder| {
            let all = selector.matches(builder)?;
            let missing = all.iter().any(|matching| builder.remove(matching).is_none());
            if missing { Err(Error::NoRule(selector.to_string())) } else { Ok(()) }
        })
    }

    /// Sets what is asked of a service, which is made when there is none of this name. Sockets that its description means
    /// are adopted, those that exist and those that come.
    ///
    /// # Errors
    /// [`Error::Service`] when no number is left, [`Error::Build`] when another description could claim the same socket, and
    /// what is said of a description that cannot be looked up: [`crate::DescribeError::NoUnit`], [`crate::DescribeError::NoCgroup`],
    /// [`crate::DescribeError::UnknownUser`], [`crate::DescribeError::NoCgroups`].
    pub fn set_service(&mut self, name: &ServiceName, request: ServiceRequest) -> Result<Committed> {
        if let Some(Some(description)) = request.description.as_ref().filter(|_| !request.later) {
            crate::described::check_there(description)?;
        }
        self.edit(|builder| {
            let id = builder.service(name)?;
            if let Some(on_missing) = request.on_missing {
                builder.set_on_missing(id, on_missing);
            }
            if let Some(description) = request.description {
                builder.set_description(id, description);
            }
            Ok(())
        })
    }

    /// Removes a service that no rule names, and lets its sockets go.
    ///
    /// # Errors
    /// [`Error::UnknownService`], and [`Error::Build`] while rules name it.
    pub fn remove_service(&mut self, name: &str) -> Result<Committed> {
        let id = self.service(name)?;
        self.edit(|builder| Ok(builder.remove_service(id).map(drop)?))
    }
}
