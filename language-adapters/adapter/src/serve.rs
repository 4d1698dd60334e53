//! A worker's life after its ready point: read a frame, do it, answer.

use std::io::{self, Read, Write};

use serde::Serialize;

use crate::Adapter;
use crate::channel::{Kind, read_frame, write_frame};

/// Serves requests until the stream ends.
///
/// # Errors
/// The channel broke, or what came over it was no frame of the supervisor's.
pub fn serve(
    adapter: &mut dyn Adapter,
    requests: &mut impl Read,
    responses: &mut impl Write,
) -> io::Result<()> {
    while let Some((kind, payload)) = read_frame(requests)? {
        match kind {
            Kind::Load => {
                let function = serde_json::from_slice(&payload)?;
                adapter.after_restore().map_err(io::Error::other)?;
                let loaded = adapter.load(&function).err();
                answer(responses, Kind::Loaded, &loaded)?;
            }
            Kind::Invoke => {
                let invocation = serde_json::from_slice(&payload)?;
                match adapter.invoke(&invocation) {
                    Ok(value) => write_frame(responses, Kind::Value, value.get().as_bytes())?,
                    Err(exception) => answer(responses, Kind::Exception, &exception)?,
                }
            }
            Kind::Loaded | Kind::Value | Kind::Exception => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the supervisor sent a worker's frame",
                ));
            }
        }
    }
    Ok(())
}

fn answer<T: Serialize>(responses: &mut impl Write, kind: Kind, value: &T) -> io::Result<()> {
    write_frame(responses, kind, &serde_json::to_vec(value)?)
}
