//! What a container or a function printed.

use std::io::{self, Write};

use refunction_protocol::host as api;
use serde_json::{Value, json};
use tonic::Streaming;

use super::Show;
use crate::cli::Format;
use crate::client::{Client, Functions};
use crate::error::{Error, Exit};

pub(super) async fn of_container(
    show: Show,
    client: &mut Client,
    container: String,
    follow: bool,
) -> Result<Exit, Error> {
    let asked = api::LogsRequest { container, follow };
    let lines = client.logs(asked).await?.into_inner();
    print(show, lines, follow).await
}

pub(super) async fn of_function(
    show: Show,
    client: &mut Functions,
    function: String,
    follow: bool,
) -> Result<Exit, Error> {
    let asked = api::FunctionLogsRequest { function, follow };
    let lines = client.function_logs(asked).await?.into_inner();
    print(show, lines, follow).await
}

async fn print(
    show: Show,
    mut lines: Streaming<api::LogLine>,
    follow: bool,
) -> Result<Exit, Error> {
    let mut documents = Vec::new();
    while let Some(line) = lines.message().await? {
        match show.format {
            Format::Text => write(&mut io::stdout().lock(), &line)?,
            // A document that has no end helps nobody.
            Format::Json if follow => writeln!(io::stdout().lock(), "{}", document(&line))?,
            Format::Json => documents.push(document(&line)),
        }
    }
    if show.format == Format::Json && !follow {
        show.result(|| json!({"lines": documents}), |_| Ok(()))?;
    }
    Ok(Exit::Ok)
}

/// `stream request| line`, the request's id shortened to what tells two apart.
pub(super) fn write(to: &mut impl Write, line: &api::LogLine) -> io::Result<()> {
    if line.dropped > 0 {
        writeln!(to, "[{} earlier lines are no longer kept]", line.dropped)?;
    }
    let request = line.request_id.get(..8).unwrap_or(&line.request_id);
    let cut = if line.truncated { " [cut]" } else { "" };
    writeln!(to, "{:<10} {request:<8} | {}{cut}", line.stream, line.line)
}

fn document(line: &api::LogLine) -> Value {
    json!({
        "unix_ms": line.unix_ms,
        "stream": line.stream,
        "request_id": Some(&line.request_id).filter(|id| !id.is_empty()),
        "line": line.line,
        "truncated": line.truncated,
        "dropped": line.dropped,
    })
}
