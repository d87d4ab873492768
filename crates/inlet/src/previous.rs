//! The ruleset before the one in force, which is kept to go back to.

use inlet_core::image::Previous;
use inlet_core::{Plan, Ruleset, Services};
use libbpf_rs::MapHandle;

use crate::commit::{Committed, Terms};
use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::layout::GenerationFiles;
use crate::snapshot::read_words;
use crate::state::{Access, create_frozen, open_map};

/// Keeps what brings `old` back when `new` is in force, in a frozen map.
pub(crate) fn keep(old: &Ruleset, new: &Ruleset, plan: &Plan) -> Result<MapHandle> {
    let words = Previous::between(old, new, plan)?.to_words();
    create_frozen("inlet_previous", words.len(), |filled| filled.copy_from_slice(&words))
}

/// Opens what is kept beside a generation; `None` beside the first one.
pub(crate) fn open(files: &GenerationFiles) -> Result<Option<MapHandle>> {
    let path = files.previous();
    path.exists().then(|| open_map(&path, Access::Write)).transpose()
}

impl Instance {
    /// Puts the ruleset in force that was so before, also when the one in force waits for confirmation. The other way round
    /// the same brings back what is in force now. Services that come back have the sockets that they had.
    ///
    /// # Errors
    /// [`Error::NoPrevious`], and those of [`Instance::commit`].
    pub fn roll_back(&mut self) -> Result<Committed> {
        let files = self.files.generation(self.generation);
        let path = files.previous();
        if !path.exists() {
            return Err(Error::NoPrevious);
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
