//! Telling systemd, where it started this, that the daemon serves or ends.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use tracing::warn;

/// It serves.
pub(crate) const READY: &str = "READY=1";

/// It is about to end.
pub(crate) const STOPPING: &str = "STOPPING=1";

/// Says it to whoever asked to be told.
pub(crate) fn say(word: &str) {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(error) = send(&socket, word)
    {
        warn!(%error, "systemd cannot be told {word}");
    }
}

fn send(socket: &OsStr, word: &str) -> io::Result<()> {
    // With an @ in front it is no file, but a name of the kernel's.
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(word.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &OsStr, address: &SocketAddr) -> String {
        let listening = UnixDatagram::bind_addr(address).unwrap();
        send(socket, READY).unwrap();
        let mut buffer = [0; 64];
        let length = listening.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn both_kinds_of_socket_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let address = SocketAddr::from_pathname(&path).unwrap();
        assert_eq!(heard(path.as_os_str(), &address), READY);
        let name = format!("refunction-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        assert_eq!(heard(format!("@{name}").as_ref(), &address), READY);
        assert!(send("/nonexistent/notify".as_ref(), READY).is_err());
    }
}
