//! Unix sockets between the processes at a machine's boards ↔ messages with open files, each whole and of a bounded length, from
//! peers whose user is known.
//!
//! They lie in a directory that nobody else may enter, and each peer is asked for by the kernel's word for who it is. A socket is
//! of the kind that keeps messages apart, so that one that is too long is an error, and never the beginning of the next.

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_send_buffer_size, socket_peercred};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    recvmsg, sendmsg, socket_with, socketpair,
};
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Bytes of a message at most: a piece of a console, or a list of all that a board has.
pub const MESSAGE_BYTES: usize = 32 * 1024;
/// Open files of a message at most: the consoles and lines of a board, with some to spare. The kernel takes 253.
pub const FILES_MAX: usize = 72;
/// Bytes that wait in a socket at most: a reader that does not read costs no more.
const WAITING_BYTES: usize = 256 * 1024;
/// Peers that wait to be let in.
const BACKLOG: i32 = 32;

/// One message.
#[derive(Debug)]
pub struct Message {
    /// What it says.
    pub bytes: Vec<u8>,
    /// The open files that came with it.
    pub files: Vec<OwnedFd>,
}

/// One end of a connection.
#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
    peer: i32,
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Link {
    /// Connects to whoever listens there: to us, to root, and where we are root to whomever the directory belongs to, since a system's
    /// owners and guard have a user of their own.
    ///
    /// # Errors
    /// Nobody does, or somebody else.
    pub fn connect(path: &Path) -> io::Result<Link> {
        let socket = new_socket()?;
        connect(&socket, &address(path)?)?;
        let parent = path.parent().filter(|_| rustix::process::geteuid().is_root());
        let directory = parent.and_then(|parent| fs::symlink_metadata(parent).ok());
        let trusted = directory.filter(|found| found.is_dir() && found.mode() & 0o077 == 0);
        Link::from(socket, trusted.map(|found| found.uid()))
    }

    /// A connection from an open socket.
    ///
    /// # Errors
    /// The other end is neither us nor root.
    pub fn of(socket: OwnedFd) -> io::Result<Link> {
        Link::from(socket, None)
    }

    /// A connection that was one before this process became another program.
    pub fn again(socket: OwnedFd) -> Link {
        let peer = socket_peercred(&socket).map_or(0, |peer| peer.pid.as_raw_nonzero().get());
        Link { socket, peer }
    }

    fn from(socket: OwnedFd, trusted: Option<u32>) -> io::Result<Link> {
        let peer = socket_peercred(&socket)?;
        let uid = peer.uid;
        if !uid.is_root() && uid != rustix::process::geteuid() && Some(uid.as_raw()) != trusted {
            let text = format!("its other end belongs to user {}", uid.as_raw());
            return Err(io::Error::new(ErrorKind::PermissionDenied, text));
        }
        set_socket_send_buffer_size(&socket, WAITING_BYTES)?;
        Ok(Link { socket, peer: peer.pid.as_raw_nonzero().get() })
    }

    /// Two ends of one connection, within one process or for one that it becomes.
    ///
    /// # Errors
    /// The system has no more of them.
    pub fn pair() -> io::Result<(Link, Link)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Link::of(one)?, Link::of(other)?))
    }

    /// The process at the other end, as it was when it connected.
    pub fn peer(&self) -> i32 {
        self.peer
    }

    /// Sends a message, at once or not at all.
    ///
    /// # Errors
    /// `WouldBlock` where the other end does not read; it is gone; the message is none that may be sent.
    pub fn send(&self, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
        if bytes.is_empty() || bytes.len() > MESSAGE_BYTES || files.len() > FILES_MAX {
            return Err(io::Error::new(ErrorKind::InvalidInput, "a message that is longer than any that is read"));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
            return Err(io::Error::new(ErrorKind::InvalidInput, "more files than a message takes"));
        }
        loop {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut ancillary, flags) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next message, if there is one; `None` where the other end is gone.
    ///
    /// # Errors
    /// `WouldBlock` where there is none; one that is longer, or has more files, than any that is sent.
    pub fn receive(&self) -> io::Result<Option<Message>> {
        let mut bytes = vec![0; MESSAGE_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let mut reset = false;
        let received = loop {
            match recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
                Err(Errno::INTR) => {}
                // It went without having read all, which the kernel tells once, and before what it had said itself.
                Err(Errno::CONNRESET) if !reset => reset = true,
                Err(Errno::CONNRESET) => return Ok(None),
                other => break other?,
            }
        };
        let mut files = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                files.extend(some);
            }
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::new(ErrorKind::InvalidData, "a message that is longer than any that is sent"));
        }
        bytes.truncate(received.bytes);
        Ok(if bytes.is_empty() { None } else { Some(Message { bytes, files }) })
    }
}

/// What others connect to. While it lives nobody else listens there.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    /// Locked as long as one of its copies is open, in whichever process.
    lock: OwnedFd,
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Listener {
    /// Listens at a path below a directory of ours, which is made where it is missing.
    ///
    /// # Errors
    /// `AddrInUse` where another process listens there; others may enter the directory; the path is too long.
    pub fn new(path: &Path) -> io::Result<Listener> {
        if let Some(directory) = path.parent() {
            keep_private(directory)?;
        }
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut beside = path.as_os_str().to_os_string();
        beside.push(".lock");
        let lock = open(&beside, flags, Mode::RUSR | Mode::WUSR)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            Errno::WOULDBLOCK => {
                io::Error::new(ErrorKind::AddrInUse, format!("another process holds {}", path.display()))
            }
            other => other.into(),
        })?;
        // Whoever listened there before is gone, since the lock was free.
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = new_socket()?;
        bind(&socket, &address(path)?)?;
        listen(&socket, BACKLOG)?;
        Ok(Listener { socket, lock })
    }

    /// What [`Listener::files`] gave, in another process.
    pub fn of(socket: OwnedFd, lock: OwnedFd) -> Listener {
        Listener { socket, lock }
    }

    /// The socket and the lock, to be given to a process that goes on.
    pub fn files(&self) -> [BorrowedFd<'_>; 2] {
        [self.socket.as_fd(), self.lock.as_fd()]
    }

    /// Lets the next one in.
    ///
    /// # Errors
    /// `WouldBlock` where nobody waits; somebody who is neither us nor root.
    pub fn accept(&self) -> io::Result<Link> {
        let socket = accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        Link::of(socket)
    }
}

/// Where sockets lie unless it is said: below what is root's, or the user's own.
pub fn directory() -> PathBuf {
    let user = rustix::process::geteuid();
    match std::env::var_os("XDG_RUNTIME_DIR") {
        _ if user.is_root() => "/run/sai-buddy".into(),
        Some(directory) if Path::new(&directory).is_absolute() => Path::new(&directory).join("sai-buddy"),
        _ => format!("/tmp/sai-buddy-{}", user.as_raw()).into(),
    }
}

/// Makes a directory that nobody else may enter, or sees that it is one: ours, or anybody's where we are root.
///
/// # Errors
/// It is somebody else's, or others may enter it.
pub fn keep_private(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(io::Error::new(error.kind(), format!("{}: {error}", directory.display())));
        }
        _ => {}
    }
    let found = fs::symlink_metadata(directory)?;
    let user = rustix::process::geteuid();
    let ours = found.is_dir() && (user.is_root() || found.uid() == user.as_raw());
    if !ours || found.mode() & 0o077 != 0 {
        let text =
            format!("{}: expected a directory of ours that nobody else may enter (mode 0700)", directory.display());
        return Err(io::Error::new(ErrorKind::PermissionDenied, text));
    }
    Ok(())
}

fn new_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

fn address(path: &Path) -> io::Result<SocketAddrUnix> {
    SocketAddrUnix::new(path).map_err(|_| {
        io::Error::new(ErrorKind::InvalidInput, format!("{}: longer than a socket's path may be", path.display()))
    })
}
