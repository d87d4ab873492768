//! The program that sets source ports, on every interface of the namespace.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::described::{detach, is_attached};
use crate::error::{Error, Result};
use crate::fault;
use crate::kernel::interfaces::{Device, devices};
use crate::kernel::{Netns, raw};
use crate::state::AnswerFiles;

/// Attaches the program to every interface that does not have it, and forgets interfaces that are gone.
pub(super) fn cover(files: &AnswerFiles, program: &OwnedFd, netns: &Netns) -> Result<()> {
    let all = devices(netns)?;
    for index in files.interfaces()? {
        if all.iter().all(|device| device.index != index) {
            detach(&files.interface(index))?;
        }
    }
    for device in lacking(files, all)? {
        attach(files, program, netns, &device)?;
        fault::point("answers:interface");
    }
    Ok(())
}

/// The interfaces that do not have the program, by the pins: who only reads may not look at the links.
pub(crate) fn uncovered(files: &AnswerFiles, netns: &Netns) -> Result<Vec<String>> {
    let covered = files.interfaces()?;
    let mut all = devices(netns)?;
    all.retain(|device| !covered.contains(&device.index));
    Ok(all.into_iter().map(|device| device.name).collect())
}

fn lacking(files: &AnswerFiles, all: Vec<Device>) -> Result<Vec<Device>> {
    let mut lacking = Vec::new();
    for device in all {
        if !is_attached(&files.interface(device.index))? {
            lacking.push(device);
        }
    }
    Ok(lacking)
}

fn attach(files: &AnswerFiles, program: &OwnedFd, netns: &Netns, device: &Device) -> Result<()> {
    let path = files.interface(device.index);
    // What is left of an interface that is gone, and had this index.
    detach(&path)?;
    let link = match netns.run(|| raw::link_egress(program.as_fd(), device.index))? {
        // It went meanwhile.
        Err(cause) if cause.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
        link => link.map_err(|cause| refused(cause, device))?,
    };
    raw::pin(link.as_fd(), &path).map_err(Error::at("pin", &path))
}

fn refused(cause: io::Error, device: &Device) -> Error {
    Error::os("attach to what leaves through", &device.name)(cause)
}

/// Detaches the program from every interface.
pub(super) fn uncover(files: &AnswerFiles) -> Result<()> {
    for index in files.interfaces()? {
        detach(&files.interface(index))?;
        fault::point("answers:uncovered");
    }
    Ok(())
}
