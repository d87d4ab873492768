//! The small changes: rules come and go, services are made, described and removed.

use inlet_core::{Listen, Selector, ServiceName, Target};

use super::{CommitOptions, Committed, Instance};
use crate::error::Result;
use crate::snapshot::{Edit, ServiceRequest};

impl Instance {
    /// Carries out a change of a few rules, or of a service.
    ///
    /// # Errors
    /// Those of the methods that are named after it.
    pub fn carry_out(&mut self, edit: &Edit, options: &CommitOptions) -> Result<Committed> {
        edit.check()?;
        self.edit(options, |builder| edit.make(builder))
    }

    /// Adds the rules that `selector` stands for, or replaces the verdicts of those with the same match: their former
    /// verdicts are in the plan.
    ///
    /// # Errors
    /// [`crate::Error::Build`] when one ties with another rule, [`crate::KernelError::UnknownInterface`].
    pub fn bind(&mut self, target: &Target, selector: &Selector) -> Result<Committed> {
        self.carry_out(&Edit::Bind(target.clone(), selector.clone()), &CommitOptions::default())
    }

    /// [`Instance::bind`] to the service that is named after an address and has the sockets there.
    ///
    /// # Errors
    /// As for [`Instance::bind`], those of [`Instance::set_service`], and [`crate::DescribeError::OtherProtocol`].
    pub fn bind_to(&mut self, listen: Listen, selector: &Selector) -> Result<Committed> {
        self.carry_out(&Edit::BindTo(listen, selector.clone()), &CommitOptions::default())
    }

    /// Removes the rules that `selector` stands for, all or none.
    ///
    /// # Errors
    /// [`crate::Error::NoRule`] when one of them is not there.
    pub fn unbind(&mut self, selector: &Selector) -> Result<Committed> {
        self.carry_out(&Edit::Unbind(selector.clone()), &CommitOptions::default())
    }

    /// Sets what is asked of a service, which is made when there is none of this name. Sockets that its description
    /// means are adopted, those that exist and those that come.
    ///
    /// # Errors
    /// [`crate::Error::Service`] when no number is left, [`crate::Error::Build`] when another description could claim
    /// the same socket, and what is said of a description that cannot be looked up: [`crate::DescribeError::NoUnit`],
    /// [`crate::DescribeError::NoCgroup`], [`crate::DescribeError::UnknownUser`], [`crate::DescribeError::NoCgroups`].
    pub fn set_service(&mut self, name: &ServiceName, request: ServiceRequest) -> Result<Committed> {
        self.carry_out(&Edit::SetService(name.clone(), request), &CommitOptions::default())
    }

    /// Removes a service that no rule names, and lets its sockets go.
    ///
    /// # Errors
    /// [`crate::Error::UnknownService`], and [`crate::Error::Build`] while rules name it.
    pub fn remove_service(&mut self, name: &str) -> Result<Committed> {
        self.carry_out(&Edit::RemoveService(name.to_owned()), &CommitOptions::default())
    }
}
