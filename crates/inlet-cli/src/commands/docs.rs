//! Completions and man pages, from the definitions of the arguments.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::shells;
use inlet::Error;

use crate::args::{Cli, Shell};
use crate::failure::Failure;
use crate::render::Screen;

pub(super) fn completions(shell: Shell, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let mut command = Cli::command();
    // Into memory first: the generators panic when they cannot write.
    let mut text = Vec::new();
    match shell {
        Shell::Bash => clap_complete::generate(shells::Bash, &mut command, "inlet", &mut text),
        Shell::Zsh => clap_complete::generate(shells::Zsh, &mut command, "inlet", &mut text),
        Shell::Fish => clap_complete::generate(shells::Fish, &mut command, "inlet", &mut text),
    }
    Ok(screen.out.write_all(&text)?)
}

pub(super) fn man(dir: &Path) -> Result<(), Failure> {
    let written = std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(Cli::command(), dir));
    let object = || format!("man pages into {}", dir.display());
    written.map_err(|cause| Failure::Inlet(Error::Os { operation: "write", object: object(), cause }))
}
