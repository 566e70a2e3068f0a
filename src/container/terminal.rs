//! A container's terminal: made in its own devpts, its other end handed to the shim.
//!
//! Every step works on a descriptor that was checked: neither `/dev/pts/ptmx` nor `/dev/console`
//! can be a link that an image or another container put there (CVE-2025-52565), and the program's
//! end comes from the kernel and not from a path.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::{
    cmsg_space,
    fs::{CWD, FileType, FsWord, Mode, OFlags, fstat, fstatfs, makedev, openat},
    mount::{mount_bind, mount_move},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
    pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt},
};

use super::resolve::{self, Missing};
use crate::model::Bundle;

/// `DEVPTS_SUPER_MAGIC` (Linux `include/uapi/linux/magic.h`).
const DEVPTS_MAGIC: FsWord = 0x1cd1;

/// Makes the terminal, shows it as `/dev/console` and sends the shim its end. Gives the program's.
/// To be called between the making of the mounts and the change of the root.
pub(super) fn make(
    bundle: &Bundle,
    root: BorrowedFd<'_>,
    shim: &UnixStream,
) -> io::Result<OwnedFd> {
    let place = resolve::without_links(root, "/dev/pts/ptmx")?;
    let stat = fstat(&place)?;
    let real = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == makedev(5, 2)
        && fstatfs(&place)?.f_type == DEVPTS_MAGIC;
    if !real {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "/dev/pts is not devpts"));
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let outer = openat(CWD, resolve::name_of(place.as_fd()), flags, Mode::empty())?;
    unlockpt(&outer)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let inner = ioctl_tiocgptpeer(&outer, flags)?;
    // A `/dev` of the user's is left as it is.
    if !bundle.mounts.iter().any(|mount| matches!(mount.target.as_str(), "/dev" | "/dev/console")) {
        let console = resolve::make_without_links(root, "/dev/console", Missing::File)?;
        let stage = bundle.dir.join("stage-file");
        mount_bind(resolve::name_of(inner.as_fd()), &stage)?;
        mount_move(&stage, resolve::name_of(console.as_fd()))?;
    }
    send(shim, outer.as_fd())?;
    Ok(inner)
}

fn send(shim: &UnixStream, terminal: BorrowedFd<'_>) -> io::Result<()> {
    let terminals = [terminal];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&terminals)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    sendmsg(shim, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Takes the terminal that [`make`] has sent; does not wait for it.
pub(crate) fn receive(container: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    recvmsg(container, &mut [IoSliceMut::new(&mut [0])], &mut control, flags)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut terminals) = message
            && let Some(terminal) = terminals.next()
        {
            return Ok(terminal);
        }
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the container sent no terminal"))
}
