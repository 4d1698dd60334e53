//! All in one go: a container for one call, gone afterwards whatever happened.

use std::collections::BTreeMap;
use std::io::{self, Write};

use refunction_protocol::host as api;
use tonic::Code;

use super::function::{Answer, call, send};
use super::interruption::Interruption;
use super::{Show, logs};
use crate::client::Client;
use crate::error::{Error, Exit};
use crate::payload::Code as FunctionCode;

/// What is to be run.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) code: FunctionCode,
    pub(super) event: String,
    pub(super) image: String,
    pub(super) main: Option<String>,
    pub(super) handler: Option<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) memory_bytes: u64,
    pub(super) deadline_ms: Option<u64>,
}

pub(super) async fn run(show: Show, client: &mut Client, plan: Plan) -> Result<Exit, Error> {
    let mut interruption = Interruption::new()?;
    // Chosen here: it must be known even if the creation is interrupted.
    let random = uuid::Uuid::new_v4().simple().to_string();
    let id = format!("run-{}", &random[..8]);
    let outcome = tokio::select! {
        outcome = carry_out(client.clone(), &id, plan) => outcome,
        () = interruption.comes() => Err(Error::Interrupted),
    };
    let removed = client
        .remove_container(api::RemoveContainerRequest {
            container: id.clone(),
        })
        .await;
    if let Err(status) = removed
        && status.code() != Code::NotFound
    {
        let message = status.message();
        let _ = writeln!(io::stderr(), "funk: the container {id} is left: {message}");
    }
    outcome?.show(show)?;
    Ok(Exit::Ok)
}

async fn carry_out(mut client: Client, id: &str, plan: Plan) -> Result<Answer, Error> {
    client
        .create_container(api::CreateContainerRequest {
            image: plan.image,
            name: id.to_owned(),
            memory_bytes: plan.memory_bytes,
            pids: 0,
            env: BTreeMap::new(),
        })
        .await?;
    let loaded = send(
        &mut client,
        api::SendFunctionRequest {
            container: id.to_owned(),
            code: plan.code.text,
            binary: plan.code.binary,
            main: plan.main,
            handler: plan.handler,
            env: plan.env,
            deadline_ms: plan.deadline_ms,
        },
    )
    .await;
    let answered = match loaded {
        Ok(_) => call(&mut client, id.to_owned(), plan.event, plan.deadline_ms).await,
        Err(error) => Err(error),
    };
    // What it printed goes to standard error: standard output is the result's.
    if let Err(error) = printed(&mut client, id).await
        && answered.is_ok()
    {
        let _ = writeln!(
            io::stderr(),
            "funk: what it printed cannot be shown: {error}"
        );
    }
    answered
}

/// The function's own lines; the supervisor's are for `funk logs`.
async fn printed(client: &mut Client, id: &str) -> Result<(), Error> {
    let mut lines = client
        .logs(api::LogsRequest {
            container: id.to_owned(),
            follow: false,
        })
        .await?
        .into_inner();
    while let Some(line) = lines.message().await? {
        if line.stream != "supervisor" {
            logs::write(&mut io::stderr().lock(), &line)?;
        }
    }
    Ok(())
}
