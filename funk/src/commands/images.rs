//! Images.

use std::io::Write;
use std::path::Path;

use refunction_protocol::host as api;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Show;
use crate::client::Client;
use crate::display::{bytes, table};
use crate::error::{Error, Exit};

/// Bytes sent at a time.
const CHUNK_BYTES: usize = 1024 * 1024;

pub(super) async fn import(show: Show, client: &mut Client, path: &Path) -> Result<Exit, Error> {
    let mut file = tokio::fs::File::open(path)
        .await
        .map_err(|error| Error::file("reading", path, &error))?;
    let (sender, pieces) = mpsc::channel(4);
    let reading = tokio::spawn(async move {
        loop {
            let mut data = Vec::with_capacity(CHUNK_BYTES);
            let read = (&mut file)
                .take(CHUNK_BYTES as u64)
                .read_to_end(&mut data)
                .await?;
            // A refusal ends the other side; its status says why.
            if read == 0 || sender.send(api::ImportImageRequest { data }).await.is_err() {
                return Ok::<(), std::io::Error>(());
            }
        }
    });
    let imported = client.import_image(ReceiverStream::new(pieces)).await;
    // What was cut short by a read error is no archive: that error is the cause.
    if let Ok(Err(error)) = reading.await {
        return Err(Error::file("reading", path, &error));
    }
    let names = imported?.into_inner().names;
    show.result(
        || json!({"images": names}),
        |out| names.iter().try_for_each(|name| writeln!(out, "{name}")),
    )?;
    Ok(Exit::Ok)
}

pub(super) async fn list(show: Show, client: &mut Client) -> Result<Exit, Error> {
    let images = client
        .list_images(api::ListImagesRequest {})
        .await?
        .into_inner()
        .images;
    show.result(
        || {
            let images: Vec<_> = images
                .iter()
                .map(|it| {
                    json!({
                        "name": it.name,
                        "digest": it.digest,
                        "size_bytes": it.size_bytes,
                        "created_unix_ms": it.created_unix_ms,
                    })
                })
                .collect();
            json!({"images": images})
        },
        |out| {
            let rows: Vec<_> = images
                .iter()
                .map(|it| {
                    let digest = it
                        .digest
                        .split_once(':')
                        .map_or(&*it.digest, |(_, hex)| hex);
                    let short = digest.get(..12).unwrap_or(digest);
                    [it.name.clone(), short.to_owned(), bytes(it.size_bytes)]
                })
                .collect();
            table(out, ["NAME", "DIGEST", "SIZE"], &rows)
        },
    )?;
    Ok(Exit::Ok)
}
