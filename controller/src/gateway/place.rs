//! Where the gateway listens: an address, or a socket of this machine's.

use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::token::Token;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An address and a port.
    Address(SocketAddr),
    /// A socket, which only this process's user may connect to.
    Socket(PathBuf),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // As a URL, as other programs have it, too.
        let path = text
            .strip_prefix("unix://")
            .filter(|path| path.starts_with('/'));
        match path.or_else(|| text.strip_prefix("unix:")) {
            Some(path) if path.starts_with('/') && !path.starts_with("//") => {
                Ok(Self::Socket(path.into()))
            }
            Some(_) => Err(format!("{text:?} has no absolute path after unix:")),
            None => text.parse().map(Self::Address).map_err(|_| {
                format!(
                    "{text:?} is no place to listen at; expected one such as 127.0.0.1:8080, [::1]:8080 or unix:/run/refunction/gateway.sock"
                )
            }),
        }
    }
}

impl Place {
    /// Nobody from another host comes here.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Address(address) => address.ip().to_canonical().is_loopback(),
            Self::Socket(_) => true,
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(to, "{address}"),
            Self::Socket(path) => write!(to, "unix:{}", path.display()),
        }
    }
}

/// Why the gateway does not listen.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Everybody who reaches it could run code.
    #[error(
        "the gateway's address {0} can be reached from other machines: give a token with --gateway-token-file, or a loopback address"
    )]
    NeedsToken(SocketAddr),
    /// Somebody answers there.
    #[error("another program listens on {0}")]
    InUse(Place),
    /// It cannot.
    #[error("listening on {place}: {source}")]
    Listen {
        /// Where.
        place: Place,
        /// Why not.
        source: io::Error,
    },
}

/// A place where clients can connect.
#[derive(Debug)]
pub struct Bound {
    pub(super) listener: Listener,
    pub(super) entrance: Entrance,
}

/// What is asked of who comes in.
#[derive(Debug, Clone)]
pub(super) enum Entrance {
    /// This token.
    Token(Token),
    /// To be here.
    Loopback,
    /// Nothing: the socket's file says who may connect.
    Socket,
}

#[derive(Debug)]
pub(super) enum Listener {
    Address(TcpListener),
    Socket(UnixListener, PathBuf),
}

impl Bound {
    /// Listens from now on. The token is asked for on addresses; a socket's file says by
    /// itself who may connect.
    ///
    /// # Errors
    /// Other machines could connect and there is no token; or it is not possible.
    pub async fn listen(place: &Place, token: Option<&Token>) -> Result<Self, PlaceError> {
        let failed = |source| PlaceError::Listen {
            place: place.clone(),
            source,
        };
        match place {
            Place::Address(address) => {
                if token.is_none() && !place.is_local() {
                    return Err(PlaceError::NeedsToken(*address));
                }
                let listener = TcpListener::bind(address).await;
                Ok(Self {
                    listener: Listener::Address(listener.map_err(failed)?),
                    entrance: token.cloned().map_or(Entrance::Loopback, Entrance::Token),
                })
            }
            Place::Socket(path) => {
                if UnixStream::connect(path).await.is_ok() {
                    return Err(PlaceError::InUse(place.clone()));
                }
                Ok(Self {
                    listener: Listener::Socket(socket(path).map_err(failed)?, path.clone()),
                    entrance: Entrance::Socket,
                })
            }
        }
    }

    /// Where it is, with the port that the kernel chose if none was given.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        match &self.listener {
            Listener::Address(listener) => listener.local_addr().ok().map(Place::Address),
            Listener::Socket(_, path) => Some(Place::Socket(path.clone())),
        }
    }
}

/// Closed to others before it has its name; a dead daemon's is replaced.
fn socket(path: &Path) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)?;
    }
    let mut before = path.as_os_str().to_owned();
    before.push(format!(".{}", std::process::id()));
    let before = PathBuf::from(before);
    // One of a process that had the same number.
    let _ = fs::remove_file(&before);
    let listener = UnixListener::bind(&before)?;
    let named = fs::set_permissions(&before, Permissions::from_mode(0o600))
        .and_then(|()| fs::rename(&before, path));
    if let Err(error) = named {
        let _ = fs::remove_file(&before);
        return Err(error);
    }
    Ok(listener)
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Socket(_, path) = self {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_place_is_an_address_or_a_path() {
        for text in ["127.0.0.1:80", "[::1]:0", "unix:/run/x.sock"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "8080",
            "localhost",
            "127.0.0.1",
            "unix:",
            "unix:x",
            "unix://x",
            "http://x",
        ] {
            assert!(text.parse::<Place>().is_err(), "{text:?}");
        }
    }

    #[tokio::test]
    async fn other_machines_need_a_token() {
        for text in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let place = text.parse().unwrap();
            let error = Bound::listen(&place, None).await.unwrap_err();
            assert!(matches!(error, PlaceError::NeedsToken(_)), "{error}");
            assert!(error.to_string().contains("--gateway-token-file"));
        }
        let token = Token::new("0123456789abcdef").unwrap();
        let open = "0.0.0.0:0".parse().unwrap();
        let own = "127.0.0.1:0".parse().unwrap();
        for place in [&open, &own] {
            let bound = Bound::listen(place, Some(&token)).await.unwrap();
            assert!(matches!(bound.entrance, Entrance::Token(_)));
        }
        let bound = Bound::listen(&own, None).await.unwrap();
        assert!(matches!(bound.entrance, Entrance::Loopback));
    }

    #[tokio::test]
    async fn a_socket_is_its_owners_and_a_dead_ones_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/gateway.sock");
        let place = Place::Socket(path.clone());
        let bound = Bound::listen(&place, None).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let second = Bound::listen(&place, None).await;
        assert!(matches!(second, Err(PlaceError::InUse(_))), "{second:?}");
        drop(bound);
        assert!(!path.exists());
        // As a killed daemon leaves it.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let bound = Bound::listen(&place, None).await.unwrap();
        assert!(UnixStream::connect(&path).await.is_ok());
        drop(bound);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }
}
