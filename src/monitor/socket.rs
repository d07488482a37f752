//! A Unix socket that only this process's user can reach.
//!
//! It lies in a directory of mode 0700 under RUNTIME_DIRECTORY, XDG_RUNTIME_DIR or the temporary directory. Where none
//! of them can be written, as in a read-only container, it gets an abstract address, and a warning is logged.

use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::{env, iter};

use log::warn;
use socket2::SockAddr;

/// Distinguishes the sockets of one process.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// The socket's address; its directory is removed on drop.
pub struct PrivateSocket {
    directory: Option<PathBuf>,
    address: SockAddr,
}

impl PrivateSocket {
    /// Binds in the first of these directories that can be written.
    ///
    /// # Errors
    /// When not even an abstract address can be bound.
    pub fn bind() -> io::Result<(Self, UnixListener)> {
        let name = format!("lavaproxy-{}-{}", process::id(), COUNT.fetch_add(1, Relaxed));
        if let Some(found) = parents().find_map(|parent| Self::bind_under(&parent, &name)) {
            return Ok(found);
        }
        warn!(
            "event=monitor-exposed hint=\"no directory can be written: set RUNTIME_DIRECTORY to one, or any local user can reach the pages without WEB_PASSWORD\""
        );
        let address = SocketAddr::from_abstract_name(&name)?;
        let listener = UnixListener::bind_addr(&address)?;
        Ok((Self { directory: None, address: SockAddr::unix(format!("\0{name}"))? }, listener))
    }

    /// In the directory of this name. Another user may have made it first, to have the abstract address taken: then in one
    /// whose name nobody can know.
    fn bind_under(parent: &Path, name: &str) -> Option<(Self, UnixListener)> {
        let unknown = format!("{name}-{:016x}", RandomState::new().hash_one(name));
        [name, &unknown].into_iter().find_map(|name| Self::bind_in(&parent.join(name)).ok())
    }

    fn bind_in(directory: &Path) -> io::Result<(Self, UnixListener)> {
        let path = directory.join("monitor.sock");
        if is_left_over(&path) {
            fs::remove_dir_all(directory)?;
        }
        DirBuilder::new().mode(0o700).create(directory)?;
        let address = SockAddr::unix(&path);
        let this = Self { directory: Some(directory.to_owned()), address: address? };
        let listener = UnixListener::bind(path)?;
        Ok((this, listener))
    }

    /// The same address with a new listener behind it.
    ///
    /// # Errors
    /// When it cannot be bound again.
    pub fn listen_again(&self) -> io::Result<UnixListener> {
        match self.address.as_pathname() {
            Some(path) => {
                if path.exists() {
                    fs::remove_file(path)?;
                }
                UnixListener::bind(path)
            }
            None => UnixListener::bind_addr(&SocketAddr::from_abstract_name(
                self.address.as_abstract_namespace().unwrap_or_default(),
            )?),
        }
    }

    /// The address to connect to.
    pub fn address(&self) -> &SockAddr {
        &self.address
    }

    /// True when no directory protects it.
    pub fn is_abstract(&self) -> bool {
        self.directory.is_none()
    }
}

impl Drop for PrivateSocket {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            // If this fails, only a dead socket is left.
            let _ = fs::remove_dir_all(directory);
        }
    }
}

/// True for a socket without a listener. It was left by a killed process with the same process number, as happens when
/// a container is started again.
fn is_left_over(path: &Path) -> bool {
    matches!(UnixStream::connect(path), Err(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}

fn parents() -> impl Iterator<Item = PathBuf> {
    ["RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"]
        .into_iter()
        .filter_map(env::var_os)
        .map(PathBuf::from)
        .chain(iter::once(env::temp_dir()))
        .filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_directory_is_private_and_removed_with_the_socket() {
        let (socket, listener) = PrivateSocket::bind().unwrap();
        let directory = socket.directory.clone().unwrap();
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        drop(listener);
        let _again = socket.listen_again().unwrap();
        drop(socket);
        assert!(!directory.exists());
    }

    #[test]
    fn a_name_that_is_taken_leads_to_another_one() {
        let name = format!("lavaproxy-taken-{}", process::id());
        let taken = env::temp_dir().join(&name);
        fs::create_dir(&taken).unwrap();
        let (socket, _listener) = PrivateSocket::bind_under(&env::temp_dir(), &name).unwrap();
        let directory = socket.directory.clone().unwrap();
        assert!(directory != taken && !socket.is_abstract(), "{directory:?}");
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        fs::remove_dir(&taken).unwrap();
    }

    #[test]
    fn a_left_over_socket_is_replaced_and_one_in_use_is_not() {
        let name = format!("lavaproxy-left-{}", process::id());
        let directory = env::temp_dir().join(name);
        let (mut killed, listener) = PrivateSocket::bind_in(&directory).unwrap();
        assert_eq!(PrivateSocket::bind_in(&directory).map(drop).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        drop(listener);
        killed.directory = None;
        let (_next, _listener) = PrivateSocket::bind_in(&directory).unwrap();
    }
}
