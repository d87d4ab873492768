//! The numbers of the kernel, out of what the libraries make of them.

use std::io;
use std::path::Path;

use super::Error;

impl Error {
    /// For `map_err`: an error of the kernel with what was tried on which object.
    pub(crate) fn os<E: Cause>(operation: &'static str, object: impl ToString) -> impl FnOnce(E) -> Self {
        let object = object.to_string();
        move |cause| Self::Os { operation, object, cause: cause.into_io() }
    }

    /// The same for an object in a file system.
    pub(crate) fn at<E: Cause>(operation: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        Self::os(operation, path.display())
    }
}

/// What a failed call to the kernel gives, in the words of the libraries that make it.
pub(crate) trait Cause {
    fn into_io(self) -> io::Error;
}

impl Cause for io::Error {
    fn into_io(self) -> io::Error {
        self
    }
}

impl Cause for rustix::io::Errno {
    fn into_io(self) -> io::Error {
        self.into()
    }
}

impl Cause for libbpf_rs::Error {
    /// The error number of the kernel, where there is one; it can be matched and it reads well. libbpf-rs has it in a
    /// private field and shows it only in the text, as the standard library writes it.
    fn into_io(self) -> io::Error {
        let text = format!("{self:#}");
        let number = text.strip_suffix(')').and_then(|text| text.rsplit_once("(os error ")?.1.parse().ok());
        number.map_or_else(|| io::Error::other(self), io::Error::from_raw_os_error)
    }
}

#[cfg(test)]
mod tests {
    use libbpf_rs::ErrorExt as _;

    use super::*;

    #[test]
    fn the_number_of_the_kernel_is_found() {
        let busy = || libbpf_rs::Error::from_raw_os_error(libc::EBUSY);
        assert_eq!(busy().into_io().raw_os_error(), Some(libc::EBUSY));
        assert_eq!(busy().context("while this").into_io().raw_os_error(), Some(libc::EBUSY));
        let other = libbpf_rs::Error::from(io::Error::other("no number"));
        assert_eq!(other.into_io().raw_os_error(), None);
    }
}
