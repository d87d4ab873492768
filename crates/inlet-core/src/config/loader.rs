//! The files of a ruleset. Each is read once and has a number, and none includes itself.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::{FileId, Source};
use super::{Host, Skipped};

/// How many files a ruleset may have, and how many of them in a row may include each other.
const MAX_FILES: usize = 1000;
const MAX_DEPTH: usize = 32;

/// The files read so far. File 0 is the ruleset itself.
pub(super) struct Loader<'h> {
    pub(super) host: &'h mut dyn Host,
    files: Vec<Loaded>,
}

struct Loaded {
    source: Source,
    /// Its path without symbolic links.
    real: Option<PathBuf>,
    /// The file that includes it.
    parent: Option<FileId>,
    /// Whether it is included. The first file is included by the operator.
    included: bool,
    /// The lines that it is read without, as a list.
    skipped: Option<Skipped>,
}

/// Why a file is not included.
pub(super) enum NotIncluded {
    /// It cannot be read.
    Unreadable(String),
    /// It is being read: it includes itself, directly or through others.
    Circle,
    /// It is included already.
    Twice,
}

impl<'h> Loader<'h> {
    pub(super) fn new(file: Source, host: &'h mut dyn Host) -> Self {
        Self { host, files: vec![Loaded { source: file, real: None, parent: None, included: true, skipped: None }] }
    }

    /// Lets all files be included once more, from the texts that were read.
    pub(super) fn start_again(&mut self) {
        self.files.iter_mut().skip(1).for_each(|file| file.included = false);
    }

    /// The text of a file.
    pub(super) fn text(&self, file: FileId) -> Arc<String> {
        Arc::clone(&self.files[file].source.text)
    }

    pub(super) fn source(&self, file: FileId) -> &Source {
        &self.files[file].source
    }

    /// Notes the words of a list that are left out.
    pub(super) fn skip(&mut self, file: FileId, words: &[Range<usize>]) {
        let loaded = &mut self.files[file];
        loaded.skipped = Skipped::of(&loaded.source.name, &loaded.source.text, words);
    }

    /// What the lists were read without.
    pub(super) fn skipped(&self) -> Vec<Skipped> {
        self.files.iter().filter_map(|file| file.skipped.clone()).collect()
    }

    pub(super) fn into_files(self) -> Vec<Source> {
        self.files.into_iter().map(|file| file.source).collect()
    }

    /// Reads the file of a set. A file that is named twice is read once.
    pub(super) fn set(&mut self, by: FileId, name: &str) -> Result<FileId, String> {
        let path = self.beside(by, name);
        if let Some(known) = self.files.iter().position(|file| file.source.path.as_deref() == Some(&path)) {
            return Ok(known);
        }
        let text = self.host.read(&path)?;
        Ok(self.add(path, text, None, None))
    }

    /// The files that a name stands for which another file includes: those of a directory, in order, or the one file.
    pub(super) fn included_by(&mut self, by: FileId, name: &str) -> Result<Vec<String>, String> {
        let directory = self.beside(by, name);
        let found = self.host.files_in(&directory)?;
        let Some(mut names) = found else { return Ok(vec![name.to_owned()]) };
        names.sort_unstable();
        let path = |file: String| Path::new(name).join(file).to_string_lossy().into_owned();
        Ok(names.into_iter().map(path).collect())
    }

    /// Reads a file that another one includes.
    pub(super) fn include(&mut self, by: FileId, name: &str) -> Result<FileId, NotIncluded> {
        let path = self.beside(by, name);
        self.know_own_path();
        let real = self.host.real_path(&path).map_err(NotIncluded::Unreadable)?;
        match self.files.iter().position(|file| file.real.as_ref() == Some(&real)) {
            Some(known) if !self.files[known].included => {
                self.files[known].included = true;
                Ok(known)
            }
            Some(known) if self.is_within(by, known) => Err(NotIncluded::Circle),
            Some(_) => Err(NotIncluded::Twice),
            None if self.files.len() >= MAX_FILES => {
                Err(NotIncluded::Unreadable(format!("more than {MAX_FILES} files")))
            }
            None if self.depth(by) >= MAX_DEPTH => {
                Err(NotIncluded::Unreadable(format!("more than {MAX_DEPTH} files include each other in a row")))
            }
            None => {
                let text = self.host.read(&path).map_err(NotIncluded::Unreadable)?;
                Ok(self.add(path, text, Some(real), Some(by)))
            }
        }
    }

    /// A path as a file names it, relative to that file.
    fn beside(&self, by: FileId, name: &str) -> PathBuf {
        let directory = self.files[by].source.path.as_deref().and_then(Path::parent);
        directory.unwrap_or(Path::new("")).join(name)
    }

    fn add(&mut self, path: PathBuf, text: String, real: Option<PathBuf>, parent: Option<FileId>) -> FileId {
        let included = real.is_some();
        self.files.push(Loaded { source: Source::file(path, text), real, parent, included, skipped: None });
        self.files.len() - 1
    }

    /// Whether `file` is `ancestor`, or included by it directly or through others.
    fn is_within(&self, file: FileId, ancestor: FileId) -> bool {
        let mut at = Some(file);
        while let Some(file) = at {
            if file == ancestor {
                return true;
            }
            at = self.files[file].parent;
        }
        false
    }

    /// How many files include each other on the way to this one.
    fn depth(&self, file: FileId) -> usize {
        std::iter::successors(Some(file), |at| self.files[*at].parent).count()
    }

    /// Looks up the real path of file 0, whose text came from the caller. It is needed once files are included.
    fn know_own_path(&mut self) {
        let own = &mut self.files[0];
        if let (None, Some(path)) = (&own.real, &own.source.path) {
            own.real = self.host.real_path(path).ok();
        }
    }
}
