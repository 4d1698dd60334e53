//! What the proxy has to know of gRPC: how a message lies in a body, and how a call
//! is answered without one.

use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response};

/// A flag and a length stand before every message.
const PREFIX: usize = 5;

/// Bytes that a message which is looked at may have: what containerd itself takes.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// Status codes that the proxy gives by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    InvalidArgument = 3,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
}

/// An answer without a message.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: format!("refunction: {}", message.into()),
        }
    }

    /// As trailers of an answer that has begun.
    pub(super) fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(self.code as u16));
        if let Ok(message) = HeaderValue::try_from(percent_encoded(&self.message)) {
            trailers.insert("grpc-message", message);
        }
        trailers
    }

    /// As the whole answer. The client may be gone; then nobody is told.
    pub(super) fn answer(&self, respond: &mut SendResponse<Bytes>) {
        let mut response = Response::new(());
        *response.headers_mut() = self.trailers();
        response
            .headers_mut()
            .insert("content-type", HeaderValue::from_static("application/grpc"));
        let _ = respond.send_response(response, true);
    }
}

/// As gRPC has it: a header cannot hold every character.
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'$' | b'&'..=b'~' => encoded.push(char::from(byte)),
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

/// Why a message cannot be looked at.
#[derive(Debug)]
pub(super) enum Unread {
    /// The body broke off.
    Broken(h2::Error),
    /// The call is to be refused.
    Refused(Refusal),
}

/// The one message of a request that is looked at.
pub(super) async fn read_message(body: &mut RecvStream) -> Result<Bytes, Unread> {
    let whole = read_body(body).await?;
    let refused = |code, text: String| Err(Unread::Refused(Refusal::new(code, text)));
    if whole.len() < PREFIX {
        return refused(Code::Internal, "the call has no message".into());
    }
    if whole[0] != 0 {
        let text = "messages of this call are looked at and must not be compressed";
        return refused(Code::Unimplemented, text.into());
    }
    let length = u32::from_be_bytes([whole[1], whole[2], whole[3], whole[4]]) as usize;
    if whole.len() - PREFIX != length {
        return refused(
            Code::Internal,
            "the call has not exactly one message".into(),
        );
    }
    Ok(whole.slice(PREFIX..))
}

/// All of a body, to its end.
pub(super) async fn read_body(body: &mut RecvStream) -> Result<Bytes, Unread> {
    let mut whole = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(Unread::Broken)?;
        if whole.len() + data.len() > PREFIX + MAX_MESSAGE {
            return Err(Unread::Refused(Refusal::new(
                Code::ResourceExhausted,
                format!("a message that is looked at may have {MAX_MESSAGE} bytes"),
            )));
        }
        whole.extend_from_slice(&data);
        body.flow_control()
            .release_capacity(data.len())
            .map_err(Unread::Broken)?;
    }
    Ok(whole.freeze())
}

/// The message in an answer, if that is one.
pub(super) fn message_of(body: &Bytes) -> Option<Bytes> {
    (body.len() >= PREFIX && body[0] == 0).then(|| body.slice(PREFIX..))
}

/// A message as it lies in a body.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(message);
    framed.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_any_characters_fits_a_header() {
        let refusal = Refusal::new(Code::Unavailable, "100 % „nö“\n");
        let trailers = refusal.trailers();
        assert_eq!(trailers["grpc-status"], "14");
        assert_eq!(
            trailers["grpc-message"],
            "refunction: 100 %25 %E2%80%9En%C3%B6%E2%80%9C%0A"
        );
    }

    #[test]
    fn a_message_is_framed_and_found_again() {
        let framed = framed(b"abc");
        assert_eq!(&framed[..], b"\0\0\0\0\x03abc");
        assert_eq!(message_of(&framed).as_deref(), Some(&b"abc"[..]));
        assert_eq!(message_of(&Bytes::new()), None);
    }
}
