//! Completions and man pages, from the definitions of the arguments.

use std::path::Path;

use clap_complete::shells;
use inlet::Error;

use crate::args::Shell;
use crate::failure::Failure;
use crate::manual;
use crate::render::Screen;

pub(super) fn completions(shell: Shell, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let mut command = manual::command();
    // Into memory first: the generators panic when they cannot write.
    let mut text = Vec::new();
    match shell {
        Shell::Bash => clap_complete::generate(shells::Bash, &mut command, "inlet", &mut text),
        Shell::Zsh => clap_complete::generate(shells::Zsh, &mut command, "inlet", &mut text),
        Shell::Fish => clap_complete::generate(shells::Fish, &mut command, "inlet", &mut text),
    }
    Ok(screen.out.write_all(&text)?)
}

/// Writes each page into the folder of its section, as man(1) wants it.
pub(super) fn man(dir: &Path) -> Result<(), Failure> {
    let write = |page: &manual::Page| {
        let section = dir.join(format!("man{}", page.section));
        std::fs::create_dir_all(&section)?;
        std::fs::write(section.join(format!("{}.{}", page.name, page.section)), &page.text)
    };
    let object = || format!("man pages into {}", dir.display());
    let failed = |cause| Failure::Inlet(Error::Os { operation: "write", object: object(), cause });
    manual::pages().iter().try_for_each(write).map_err(failed)
}
