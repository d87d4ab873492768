//! What may be asked of the services of a builder beside their sockets.

use super::Builder;
use crate::rule::{Answers, Grant, OnMissing, ServiceId, Spread};

impl Builder {
    /// Sets what happens to packets of a service without a live socket.
    pub fn set_on_missing(&mut self, id: ServiceId, on_missing: OnMissing) {
        self.services.set_on_missing(id, on_missing);
    }

    /// Sets who chooses among the live sockets of a service.
    pub fn set_spread(&mut self, id: ServiceId, spread: Spread) {
        self.services.set_spread(id, spread);
    }

    /// Sets where answers of a service over UDP leave from. With `None` the host decides.
    pub fn set_answers(&mut self, id: ServiceId, answers: Option<Answers>) {
        self.services.set_answers(id, answers);
    }

    /// Sets who may use services without the rights to change all.
    pub fn set_grants(&mut self, grants: Vec<Grant>) {
        self.services.set_grants(grants);
    }
}
