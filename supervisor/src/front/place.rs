//! Where the front listens: a port, or a socket of this machine's.

use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::application::Ends;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Of every address that there is.
    Port(u16),
    /// A socket, which only this process's user may connect to.
    Socket(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(to, "port {port}"),
            Self::Socket(path) => write!(to, "{}", path.display()),
        }
    }
}

impl Place {
    /// Listens there from now on.
    pub(super) fn listen(&self) -> io::Result<Bound> {
        match self {
            Self::Port(port) => listen(*port).map(Bound::Port),
            Self::Socket(path) => {
                let listener = std::os::unix::net::UnixListener::bind(path)?;
                fs::set_permissions(path, Permissions::from_mode(0o600))?;
                listener.set_nonblocking(true)?;
                Ok(Bound::Socket(listener))
            }
        }
    }
}

/// A socket for every address of both kinds, or of the one kind that there is.
fn listen(port: u16) -> io::Result<std::net::TcpListener> {
    let both = std::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, port));
    let listener = match both {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            std::net::TcpListener::bind(("0.0.0.0", port))
        }
        other => other,
    }?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A socket that listens, outside of any runtime.
pub(super) enum Bound {
    Port(std::net::TcpListener),
    Socket(std::os::unix::net::UnixListener),
}

impl Bound {
    /// What a client has to know that nobody told it.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Port(listener) => listener.local_addr().ok(),
            Self::Socket(_) => None,
        }
    }

    /// The same, inside one.
    pub(super) fn enter(self) -> io::Result<Listener> {
        Ok(match self {
            Self::Port(listener) => Listener::Port(TcpListener::from_std(listener)?),
            Self::Socket(listener) => Listener::Socket(UnixListener::from_std(listener)?),
        })
    }
}

/// A socket that listens.
pub(super) enum Listener {
    Port(TcpListener),
    Socket(UnixListener),
}

/// Bytes from and to a client.
pub(super) trait Bytes: AsyncRead + AsyncWrite + Unpin {
    /// Has its end be no end in order, where there is a difference (socket(7), SO_LINGER).
    fn break_off(&self);
}

impl Bytes for TcpStream {
    fn break_off(&self) {
        let at_once = nix::libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        // Without it the client sees an end.
        let _ = setsockopt(self, sockopt::Linger, &at_once);
    }
}

impl Bytes for UnixStream {
    fn break_off(&self) {}
}

/// A client's connection.
pub(super) type Stream = Box<dyn Bytes>;

impl Listener {
    /// Waits for a client.
    pub(super) async fn accept(&self, patience: Duration) -> io::Result<(Stream, Ends)> {
        match self {
            Self::Port(listener) => {
                let (stream, _) = listener.accept().await?;
                let _ = stream.set_nodelay(true);
                // A client that does not take its answer is given up by the kernel.
                let limit = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
                let _ = setsockopt(&stream, sockopt::TcpUserTimeout, &limit);
                let ends = Ends::of(&stream);
                Ok((Box::new(stream), ends))
            }
            Self::Socket(listener) => Ok((Box::new(listener.accept().await?.0), Ends::default())),
        }
    }
}
