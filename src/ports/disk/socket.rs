//! A listening Unix socket that only its owner may use.
//!
//! May not know what is spoken. Invariant: the socket has mode 0600 from the moment its name can
//! be seen.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Connections that may wait to be accepted: a client beyond them is told to come again, and many
/// take that for an error. The system's own limit is the same.
const BACKLOG: i32 = 4_096;

/// Listens at `path`, which must not exist.
pub fn listen_for_owner(path: &Path) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The name gets the mode that the socket has when it is bound.
    fchmod(&socket, Mode::from_raw_mode(0o600))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::disk::{Disk as _, std::StdDisk};

    #[test]
    fn only_the_owner_may_use_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let _listener = listen_for_owner(&dir.path().join("socket")).unwrap();
        let dir = StdDisk.open_dir(dir.path()).unwrap();
        assert_eq!(dir.stat("socket").unwrap().mode, 0o600);
    }
}
