//! What is granted, and doing it: looked up in the ruleset in force while nobody else can change it.

use std::os::fd::OwnedFd;

use inlet_core::{Builder, Grant, Match, Rule, Selector, ServiceId, ServiceName, Verdict};

use super::caller::Caller;
use super::message::{Ask, Done};
use crate::error::{Error, GrantedError, Result};
use crate::instance::{CommitOptions, Instance};
use crate::socket::Adopted;
use crate::state::Location;

/// The most rules that a service has by grants: each costs memory of the kernel.
const MAX_RULES: usize = 4096;

/// Does what is asked for, if that is granted.
pub(super) fn carry_out(location: &Location, caller: &Caller, ask: &Ask, sockets: &[OwnedFd]) -> Result<Done> {
    let mut instance = Instance::open(location.clone())?;
    let granted = Granted::of(caller, &instance)?;
    match ask {
        Ask::Register(service) => granted.register(&mut instance, service, sockets),
        Ask::Unregister(service) => granted.unregister(&mut instance, service, sockets),
        Ask::Bind(service, selector) => granted.bind(&mut instance, service, selector),
        Ask::Unbind(selector) => granted.unbind(&mut instance, selector),
    }
}

/// What a caller may.
struct Granted<'a> {
    caller: &'a Caller,
    grants: Vec<Grant>,
}

impl<'a> Granted<'a> {
    fn of(caller: &'a Caller, instance: &Instance) -> Result<Self> {
        let mut grants = Vec::new();
        for grant in instance.ruleset()?.services().grants() {
            if caller.holds(grant)? {
                grants.push(grant.clone());
            }
        }
        Ok(Self { caller, grants })
    }

    fn denied(&self, what: String) -> Error {
        let grants = self.grants.iter().map(ToString::to_string).collect();
        GrantedError::Denied { caller: self.caller.to_string(), what, grants }.into()
    }

    /// Fails when a rule with this match to a service is not granted.
    fn require(&self, service: &ServiceName, matching: &Match, selector: &Selector) -> Result<()> {
        match self.grants.iter().any(|grant| grant.service == *service && grant.covers(matching)) {
            true => Ok(()),
            false => Err(self.denied(format!("rules {selector} for service {service}"))),
        }
    }

    fn register(&self, instance: &mut Instance, service: &ServiceName, sockets: &[OwnedFd]) -> Result<Done> {
        if !self.grants.iter().any(|grant| grant.service == *service) {
            return Err(self.denied(format!("sockets for service {service}")));
        }
        let adoption = instance.register_passed(service.as_str(), &self.caller.to_string(), sockets)?;
        let adopted = adoption.adopted.iter().map(|it| {
            let when = if it.adopted == Adopted::Now { "new" } else { "known" };
            format!("adopted {} -> {service}  cookie {}, {when}", it.endpoint, it.cookie)
        });
        let refused = adoption.refused.iter().map(|it| format!("refused {}: {}", it.what, it.reason));
        Ok(Done { generation: None, lines: adopted.chain(refused).collect() })
    }

    fn unregister(&self, instance: &mut Instance, service: &ServiceName, sockets: &[OwnedFd]) -> Result<Done> {
        if !self.grants.iter().any(|grant| grant.service == *service) {
            return Err(self.denied(format!("sockets of service {service}")));
        }
        let count = instance.unregister_passed(service.as_str(), sockets)?;
        let what = if count == 1 { "socket" } else { "sockets" };
        Ok(Done { generation: None, lines: vec![format!("{count} {what} of {service} taken out")] })
    }

    fn bind(&self, instance: &mut Instance, service: &ServiceName, selector: &Selector) -> Result<Done> {
        let id = instance.id_of(service.as_str()).map_err(|_| self.denied(format!("service {service}")))?;
        let has = instance.ruleset()?.rules().filter(|rule| rule.verdict == Verdict::Service(id)).count();
        if has + selector.ports.ranges().len() > MAX_RULES {
            return Err(GrantedError::ManyRules { service: service.to_string(), max: MAX_RULES }.into());
        }
        self.change(instance, format!("{selector} -> {service}"), |builder| {
            for matching in selector.matches(builder)? {
                self.require(service, &matching, selector)?;
                self.take_out(builder, &matching, selector, |found| found == id)?;
                builder.push(&Rule { matching, verdict: Verdict::Service(id) })?;
            }
            Ok(())
        })
    }

    fn unbind(&self, instance: &mut Instance, selector: &Selector) -> Result<Done> {
        self.change(instance, format!("{selector} removed"), |builder| {
            for matching in selector.matches(builder)? {
                let granted: Vec<ServiceId> = self
                    .grants
                    .iter()
                    .filter(|grant| grant.covers(&matching))
                    .filter_map(|grant| builder.services().id(grant.service.as_str()))
                    .collect();
                if granted.is_empty() {
                    return Err(self.denied(format!("rules {selector}")));
                }
                if !self.take_out(builder, &matching, selector, |found| granted.contains(&found))? {
                    return Err(Error::NoRule(selector.to_string()));
                }
            }
            Ok(())
        })
    }

    /// Takes a rule out that is one of these services'. Gives whether there was one. What others decided stays.
    fn take_out(
        &self,
        builder: &mut Builder,
        matching: &Match,
        selector: &Selector,
        may: impl Fn(ServiceId) -> bool,
    ) -> Result<bool> {
        match builder.remove(matching) {
            None => Ok(false),
            Some(Verdict::Service(id)) if may(id) => Ok(true),
            Some(_) => {
                let (caller, rule) = (self.caller.to_string(), selector.to_string());
                Err(GrantedError::OtherRule { caller, rule }.into())
            }
        }
    }

    fn change(
        &self,
        instance: &mut Instance,
        line: String,
        change: impl FnOnce(&mut Builder) -> Result<()>,
    ) -> Result<Done> {
        let options = CommitOptions { guard: true, ..CommitOptions::default() };
        let committed = instance.edit(&options, change)?;
        let lines = if committed.plan.is_empty() { vec!["no change".to_owned()] } else { vec![line] };
        Ok(Done { generation: Some(committed.generation), lines })
    }
}
