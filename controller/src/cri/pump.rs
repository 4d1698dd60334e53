//! Moving one body, in one direction.

use std::future::poll_fn;

use bytes::Bytes;
use h2::{RecvStream, SendStream};

/// Why a body did not come to its end.
#[derive(Debug)]
pub(super) enum Broken {
    /// Whoever sent it broke off.
    Source(h2::Error),
    /// Whoever read it wants no more of it.
    Reader,
}

/// Passes on data as it comes, no faster than it is taken at the other end, and
/// trailers as they are.
pub(super) async fn pump(from: &mut RecvStream, to: &mut SendStream<Bytes>) -> Result<(), Broken> {
    loop {
        let data = tokio::select! {
            biased;
            data = from.data() => data,
            _ = poll_fn(|cx| to.poll_reset(cx)) => return Err(Broken::Reader),
        };
        match data {
            Some(Ok(data)) => {
                let length = data.len();
                // Known now, so that the end needs no frame of its own.
                let ends = from.is_end_stream();
                send(data, ends, to).await?;
                from.flow_control()
                    .release_capacity(length)
                    .map_err(Broken::Source)?;
                if ends {
                    return Ok(());
                }
            }
            Some(Err(error)) => return Err(Broken::Source(error)),
            None => {
                return match from.trailers().await.map_err(Broken::Source)? {
                    Some(trailers) => to.send_trailers(trailers),
                    None => to.send_data(Bytes::new(), true),
                }
                .map_err(|_| Broken::Reader);
            }
        }
    }
}

/// Sends data in pieces that the reader has room for.
pub(super) async fn send(
    mut data: Bytes,
    ends: bool,
    to: &mut SendStream<Bytes>,
) -> Result<(), Broken> {
    if data.is_empty() {
        return to.send_data(data, ends).map_err(|_| Broken::Reader);
    }
    while !data.is_empty() {
        to.reserve_capacity(data.len());
        while to.capacity() == 0 {
            match poll_fn(|cx| to.poll_capacity(cx)).await {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(Broken::Reader),
            }
        }
        let piece = data.split_to(to.capacity().min(data.len()));
        to.send_data(piece, ends && data.is_empty())
            .map_err(|_| Broken::Reader)?;
    }
    Ok(())
}
