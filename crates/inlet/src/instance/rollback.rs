//! The ruleset before the one in force, which is kept to go back to.

use inlet_core::Services;
use inlet_core::image::Previous;

use super::commit::Terms;
use super::{Committed, Instance};
use crate::error::{ConfirmError, Error, Result};
use crate::state::read_words;

impl Instance {
    /// Puts the ruleset in force that was so before, also when the one in force waits for confirmation. The other way round
    /// the same brings back what is in force now. Services that come back have the sockets that they had.
    ///
    /// # Errors
    /// [`crate::ConfirmError::NoPrevious`], and those of [`Instance::commit`].
    pub fn roll_back(&mut self) -> Result<Committed> {
        let files = self.files.generation(self.generation);
        let path = files.previous();
        if !path.exists() {
            return Err(Error::Confirm(ConfirmError::NoPrevious));
        }
        self.keep_routes(files.kept_routes().exists());
        let former = read_words(&path, Previous::decode)?;
        let mut builder = former.builder(self.ruleset()?)?;
        let named = builder.interfaces().to_vec();
        self.resolve_interfaces(&mut builder, &named)?;
        self.put(builder.finish()?, Terms { is_former: true, ..Terms::default() })
    }

    /// The services of the ruleset before.
    pub(crate) fn former_services(&self) -> Result<Services> {
        let path = self.files.generation(self.generation).previous();
        if path.exists() { read_words(&path, Previous::decode_services) } else { Ok(Services::default()) }
    }
}
