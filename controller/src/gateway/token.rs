//! Who may come in.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use axum::http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};
use axum::http::uri::Authority;
use sha2::{Digest, Sha256};

/// Characters of a token: fewer could be tried out.
const LEAST: usize = 16;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file.
    #[error("reading the gateway's token from {}: {source}", path.display())]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is in it.
    #[error("the gateway's token is to be {LEAST} or more visible ASCII characters on one line")]
    Unusable,
}

/// What a client shows. Only what it is compared by is kept.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl fmt::Debug for Token {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("Token")
    }
}

impl Token {
    /// Of this text.
    ///
    /// # Errors
    /// It is too short, or could not stand in a header.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        if text.len() < LEAST || !text.bytes().all(|it| it.is_ascii_graphic()) {
            return Err(TokenError::Unusable);
        }
        Ok(Self(Sha256::digest(text).into()))
    }

    /// Of a file's only line.
    ///
    /// # Errors
    /// It cannot be read, or holds no token.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let text = std::fs::read_to_string(path).map_err(|source| TokenError::File {
            path: path.to_owned(),
            source,
        })?;
        Self::new(text.trim_end_matches(['\n', '\r']))
    }

    /// True if the request shows it.
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let Some(shown) = headers.get(AUTHORIZATION) else {
            return false;
        };
        let Some((scheme, shown)) = shown.to_str().ok().and_then(|it| it.split_once(' ')) else {
            return false;
        };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return false;
        }
        // Of the digests, and to their end: how long it takes says nothing of the token.
        let shown: [u8; 32] = Sha256::digest(shown.trim()).into();
        let differing = self
            .0
            .iter()
            .zip(shown)
            .fold(0, |all, (a, b)| all | (a ^ b));
        differing == 0
    }
}

/// Refuses what a page from elsewhere has a browser on this machine send, where nothing but
/// the address keeps others out.
pub(super) fn check_page(headers: &HeaderMap) -> Result<(), &'static str> {
    // A name that is made to lead here would make a page's requests its own site's.
    let host = authority(headers, &HOST);
    if headers.contains_key(HOST) && !host.as_ref().is_some_and(is_here) {
        return Err(
            "the header Host names another machine: without a token this is localhost, or an address",
        );
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().ok().and_then(|it| it.split_once("://"));
    let origin = origin.and_then(|(_, origin)| origin.parse::<Authority>().ok());
    if origin.is_some() && origin == host {
        return Ok(());
    }
    Err("the header Origin names another site: without a token no other site's pages may come")
}

fn authority(headers: &HeaderMap, name: &HeaderName) -> Option<Authority> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

fn is_here(host: &Authority) -> bool {
    let name = host.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        pairs.collect()
    }

    #[test]
    fn only_the_token_itself_is_taken() {
        let token = Token::new("0123456789abcdef").unwrap();
        let shown = |text: &str| token.is_in(&headers(&[("authorization", text)]));
        assert!(shown("Bearer 0123456789abcdef"));
        assert!(shown("bearer  0123456789abcdef"));
        for wrong in [
            "",
            "0123456789abcdef",
            "Basic 0123456789abcdef",
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdeff",
            "Bearer 0123456789abcdeF",
        ] {
            assert!(!shown(wrong), "{wrong:?}");
        }
        assert!(!token.is_in(&HeaderMap::new()));
    }

    #[test]
    fn a_file_holds_one_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            Token::read(file.path())
        };
        assert!(read("0123456789abcdef\n").is_ok());
        for wrong in [
            "",
            "\n",
            "short\n",
            "0123456789abcdef\nmore\n",
            "0123 456789abcdef",
        ] {
            assert!(
                matches!(read(wrong), Err(TokenError::Unusable)),
                "{wrong:?}"
            );
        }
        let missing = Token::read(Path::new("/nowhere/token")).unwrap_err();
        assert!(missing.to_string().contains("/nowhere/token"));
    }

    #[test]
    fn pages_from_elsewhere_are_refused() {
        for fine in [
            &[][..],
            &[("host", "localhost:8080")],
            &[("host", "127.0.0.1:8080")],
            &[("host", "[::1]:8080")],
            &[("host", "localhost:80"), ("origin", "http://localhost:80")],
        ] {
            assert_eq!(check_page(&headers(fine)), Ok(()), "{fine:?}");
        }
        for wrong in [
            &[("host", "evil.example:8080")][..],
            &[("host", "localhost.evil.example")],
            &[("host", "")],
            &[("host", "localhost:80"), ("origin", "null")],
            &[("host", "localhost:80"), ("origin", "http://evil.example")],
            &[("host", "localhost:80"), ("origin", "http://localhost:81")],
        ] {
            assert!(check_page(&headers(wrong)).is_err(), "{wrong:?}");
        }
    }
}
