//! Commands that change or list rules and services.

use clap::CommandFactory;
use clap::error::ErrorKind;
use inlet::rules::config::Routes;
use inlet::rules::{Confine, Description, Listen, Rule, Selector, Target, config};
use inlet::{Edit, ServiceRequest};

use super::plan::{propose, warnings};
use super::{options, reader, without, writer};
use crate::Outcome;
use crate::args::{Bind, Cli, Export, Match, Rules, Service, SetService};
use crate::failure::Failure;
use crate::render::{self, Screen};

pub(super) fn bind(cli: &Cli, args: &Bind, screen: &mut Screen<'_>) -> Result<Outcome, Failure> {
    let (target, selector) = request(args)?;
    let change = match target {
        Receiver::Named(target) => Edit::Bind(target, selector),
        Receiver::At(listen) => Edit::BindTo(listen, selector),
    };
    edit(cli, &change, args.force, args.dry_run, screen)
}

pub(super) fn unbind(cli: &Cli, args: &Match, screen: &mut Screen<'_>) -> Result<Outcome, Failure> {
    edit(cli, &Edit::Unbind(args.selector()), args.force, args.dry_run, screen)
}

pub(super) fn service(cli: &Cli, args: &Service, screen: &mut Screen<'_>) -> Result<Outcome, Failure> {
    let (change, dry_run) = match args {
        Service::Set(args) => (Edit::SetService(args.service.clone(), service_request(args)?), args.dry_run),
        Service::Rm { service } => (Edit::RemoveService(service.to_string()), false),
    };
    edit(cli, &change, true, dry_run, screen)
}

fn service_request(args: &SetService) -> inlet::Result<ServiceRequest> {
    let (on_missing, spread, answers, sticky) = (args.on_missing, args.spread, args.answers, args.sticky);
    let SetService { listen, unit, cgroup, user, anyone, no_mptcp, own_binds, later, by_hand, .. } = args;
    let is_confined = unit.is_some() || cgroup.is_some();
    let all = [Listen::ALL_TCP, Listen::ALL_UDP];
    let listen = match listen.as_slice() {
        [] if is_confined && *own_binds == Some(true) => &all,
        listen => listen,
    };
    let description = match listen {
        [] if !is_confined => by_hand.then_some(None),
        listen => {
            let mut description = Description::new(listen.iter().copied())?;
            let unit = unit.clone().map(Confine::Unit);
            description.confine = unit.or_else(|| cgroup.clone().map(Confine::Cgroup));
            (description.user, description.anyone) = (user.clone(), *anyone);
            Some(Some(description))
        }
    };
    let (no_mptcp, own_binds, later) = (*no_mptcp, *own_binds, *later);
    Ok(ServiceRequest { on_missing, spread, answers, sticky, description, no_mptcp, own_binds, later })
}

pub(super) fn export(cli: &Cli, args: &Export, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let snapshot = reader(cli)?;
    let routes = if snapshot.keeps_routes() { Routes::Manage } else { Routes::Leave };
    let ruleset = snapshot.into_ruleset();
    Ok(if args.toml {
        config::write_toml(&ruleset, routes, &mut screen.out)
    } else {
        config::write(&ruleset, routes, &mut screen.out)
    }?)
}

pub(super) fn list(cli: &Cli, args: &Rules, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let ruleset = reader(cli)?.into_ruleset();
    let rules = ruleset.match_order_of(|rule| wanted(args, rule));
    render::rules(screen, &ruleset, &rules)
}

fn wanted(args: &Rules, rule: &Rule) -> bool {
    let matching = &rule.matching;
    args.protocol.0.is_none_or(|protocol| matching.protocol == protocol)
        && args.prefix.0.is_none_or(|prefix| matching.local.covers(&prefix) || prefix.covers(&matching.local))
        && matching.ports.overlaps(args.port)
}

/// Opens the instance, changes it, closes it, and shows what changed; or shows what would.
fn edit(cli: &Cli, change: &Edit, force: bool, dry_run: bool, screen: &mut Screen<'_>) -> Result<Outcome, Failure> {
    if dry_run {
        return propose(cli, screen, false, |planner| planner.propose_edit(change));
    }
    if let Some(done) = super::granted::edit(change, screen) {
        return done.map(|()| Outcome::Done);
    }
    let mut instance = writer(cli)?;
    let committed = instance.carry_out(change, &options(force))?;
    without(&committed.without);
    let warnings = warnings(&instance, &committed);
    let after = instance.into_ruleset()?;
    render::committed(screen, &committed, &after, &warnings).map(|()| Outcome::Done)
}

/// Who receives what is bound.
enum Receiver {
    Named(Target),
    /// The sockets at an address.
    At(Listen),
}

/// Tells the shapes of `bind` apart: three words after --to, --pass and --refuse, four without.
fn request(args: &Bind) -> Result<(Receiver, Selector), Failure> {
    let Bind { service, protocol, prefix, ports, to, .. } = args;
    let (target, [protocol, prefix, ports]) = match (to, ports, args.pass, args.refuse) {
        (Some(listen), None, ..) => (Receiver::At(*listen), [service, protocol, prefix]),
        (Some(_), Some(_), ..) => return Err(misshapen("--to takes no service: it is named after the address")),
        (None, Some(ports), false, false) => {
            (Receiver::Named(Target::Service(value("<SERVICE>", service)?)), [protocol, prefix, ports])
        }
        (None, None, true, _) => (Receiver::Named(Target::Pass), [service, protocol, prefix]),
        (None, None, _, true) => (Receiver::Named(Target::Refuse), [service, protocol, prefix]),
        (None, Some(_), ..) => return Err(misshapen("--pass and --refuse take no service")),
        (None, None, ..) => {
            return Err(misshapen("give a service, a protocol, a prefix and ports, or --to, --pass or --refuse"));
        }
    };
    let selector = Selector {
        protocol: value("<PROTOCOL>", protocol)?,
        local: value("<PREFIX>", prefix)?,
        ports: value("<PORTS>", ports)?,
        source: args.conditions.from,
        iface: args.conditions.iface,
        mark: args.conditions.mark,
    };
    Ok((target, selector))
}

fn value<T: std::str::FromStr<Err: std::error::Error + 'static>>(what: &'static str, text: &str) -> Result<T, Failure> {
    text.parse().map_err(|cause: T::Err| Failure::Value(what, Box::new(cause)))
}

fn misshapen(message: &str) -> Failure {
    let mut command = Cli::command();
    command.build();
    let bind = command.find_subcommand_mut("bind");
    Failure::Clap(match bind {
        Some(bind) => bind.error(ErrorKind::WrongNumberOfValues, message),
        None => command.error(ErrorKind::WrongNumberOfValues, message),
    })
}
