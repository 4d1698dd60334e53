//! What an answer in pieces begins with, as the worker gave it: a tenant's word, and checked.

use http::StatusCode;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use serde::Deserialize;

/// Bytes that it may have, as those of a request's headers.
const MOST_BYTES: usize = 64 * 1024;

/// Headers of one connection, which are the front's own to say (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// As it stands on the wire.
#[derive(Deserialize)]
struct Given {
    status: u16,
    /// A character of a value is a byte (ISO 8859-1).
    headers: Vec<(String, String)>,
}

/// A status and headers that can be sent.
#[derive(Debug, Clone)]
pub struct Head {
    /// No informational one.
    pub status: StatusCode,
    /// None that are of one connection only.
    pub headers: HeaderMap,
}

impl Head {
    /// The head in this payload, if it is one.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        if payload.len() > MOST_BYTES {
            return None;
        }
        let given: Given = serde_json::from_slice(payload).ok()?;
        let status = StatusCode::from_u16(given.status).ok()?;
        if status.is_informational() {
            return None;
        }
        let mut headers = HeaderMap::new();
        for (name, value) in given.headers {
            let name = HeaderName::try_from(name).ok()?;
            let value: Option<Vec<u8>> = value.chars().map(|it| u8::try_from(it).ok()).collect();
            let value = HeaderValue::from_bytes(&value?).ok()?;
            headers.append(name, value);
        }
        drop_hop_by_hop(&mut headers);
        if headers.contains_key(CONTENT_LENGTH) {
            length_in(&headers)?;
        }
        Some(Self { status, headers })
    }

    /// True if nothing comes after it, whatever the function sends (RFC 9110, 6.4.1).
    #[must_use]
    pub fn is_all(&self, is_head: bool) -> bool {
        let nothing = [
            StatusCode::NO_CONTENT,
            StatusCode::RESET_CONTENT,
            StatusCode::NOT_MODIFIED,
        ];
        is_head || nothing.contains(&self.status)
    }

    /// Bytes that come after it, if it says so.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        length_in(&self.headers)
    }
}

fn length_in(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let value = values.next()?.to_str().ok()?;
    let is_one = values.next().is_none() && value.bytes().all(|byte| byte.is_ascii_digit());
    is_one.then(|| value.parse().ok()).flatten()
}

/// Leaves out what is for one connection only, and what `Connection` says is so.
pub fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(status: u16, headers: &[(&str, &str)]) -> Option<Head> {
        let given = serde_json::json!({"status": status, "headers": headers});
        Head::parse(given.to_string().as_bytes())
    }

    #[test]
    fn a_head_keeps_what_is_for_the_client() {
        let head = parse(
            418,
            &[
                ("Set-Cookie", "a=1"),
                ("X-Own", "ü"),
                ("set-cookie", "b=2"),
                ("connection", "close, x-hop"),
                ("x-hop", "1"),
                ("transfer-encoding", "chunked"),
                ("content-length", "5"),
            ],
        )
        .expect("a head");
        assert_eq!(head.status, 418);
        let cookies: Vec<_> = head.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
        assert_eq!(head.headers["x-own"].as_bytes(), [0xfc]);
        assert_eq!(head.headers.len(), 4, "{:?}", head.headers);
        assert_eq!(head.length(), Some(5));
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for (status, headers) in [
            (99, &[][..]),
            (100, &[]),
            (1000, &[]),
            (200, &[("a b", "x")]),
            (200, &[("", "x")]),
            (200, &[("x", "a\r\nb: c")]),
            (200, &[("x", "\u{100}")]),
            (200, &[("content-length", "-1")]),
            (200, &[("content-length", "+1")]),
            (200, &[("content-length", "")]),
            (200, &[("content-length", "1"), ("Content-Length", "1")]),
        ] {
            assert!(parse(status, headers).is_none(), "{status} {headers:?}");
        }
        let large = "x".repeat(MOST_BYTES);
        assert!(parse(200, &[("x", &large)]).is_none());
        assert!(Head::parse(b"{}").is_none());
    }

    #[test]
    fn some_answers_are_their_head() {
        for (status, is_head, is_all) in [
            (200, false, false),
            (200, true, true),
            (204, false, true),
            (304, false, true),
        ] {
            let head = parse(status, &[]).expect("a head");
            assert_eq!(head.is_all(is_head), is_all, "{status}");
        }
    }
}
