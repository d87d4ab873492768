//! Reads grants the slow way.

use super::nearest::suggestion;
use super::node::Node;
use super::{Reader, with_remedy};
use crate::config::diagnostic::Diagnostic;
use crate::config::keys::GRANT;
use crate::rule::{Grant, PortRange, Ports, Prefix, ServiceName, UnitName, UserName, check_grants};

impl Reader<'_, '_> {
    /// Reads a list of grants. One with a mistake is left out.
    pub(super) fn grants(&mut self, node: &Node<'_>) {
        for node in self.list(node, "a list of grants") {
            let before = self.found.count();
            let grant = self.grant(&node);
            if let (Some(grant), true) = (grant, self.found.count() == before) {
                self.grants.push((grant, node.place()));
            }
        }
    }

    fn grant(&mut self, node: &Node<'_>) -> Option<Grant> {
        let (mut user, mut unit): (Option<UserName>, Option<UnitName>) = (None, None);
        let mut service: Option<ServiceName> = None;
        let (mut local, mut ports): (Vec<Prefix>, Option<Ports>) = (Vec::new(), None);
        for (key, node) in self.fields(node, GRANT) {
            match key.name.as_ref() {
                _ if self.is_null(&node) => {}
                "user" => user = self.parsed(&node),
                "unit" => unit = self.parsed(&node),
                "service" => service = self.parsed(&node),
                "local" => {
                    let nodes = self.one_or_list(&node);
                    local = nodes.iter().filter_map(|node| self.parsed(node)).collect();
                }
                _ => ports = self.ports(&node),
            }
        }
        let Some(service) = service else {
            self.found.push(Diagnostic::new(node.place(), "the grant has no \"service\"").absent());
            return None;
        };
        if ports.is_some() && local.is_empty() {
            let diagnostic = Diagnostic::new(node.place(), "the grant has \"ports\" without \"local\"");
            self.found.push(diagnostic.help("say for which prefixes").absent());
        }
        let ports = ports.unwrap_or_else(|| Ports::from(PortRange::ANY));
        Some(Grant { user, unit, service, local, ports })
    }

    /// Reports grants that cannot be, each where it stands, and keeps the others.
    pub(super) fn finish_grants(&mut self) {
        let mut kept: Vec<Grant> = Vec::new();
        for (grant, place) in std::mem::take(&mut self.grants) {
            if !self.services.contains_key(grant.service.as_str()) {
                let name = grant.service.as_str();
                let known = self.services.keys().map(String::as_str);
                let help = suggestion(name, "the services are", known);
                let diagnostic = Diagnostic::new(place, format!("no service {name:?}"));
                self.found.push(diagnostic.help(help.unwrap_or_else(|| "list it under services".to_owned())).absent());
                continue;
            }
            kept.push(grant);
            if let Err(error) = check_grants(&kept, |_| true) {
                self.found.push(with_remedy(place, &error));
                kept.pop();
            }
        }
        self.builder.set_grants(kept);
    }
}
