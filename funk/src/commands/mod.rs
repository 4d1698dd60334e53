//! What each command does.

mod build;
mod container;
mod containers;
mod function;
mod functions;
mod images;
mod interruption;
mod logs;
mod manual;
mod run;
mod serve;
mod top;

use std::io::{self, Write};

use refunction_protocol::host as api;
use serde::Serialize;
use serde_json::json;

use crate::cli::{Arguments, Command, Format, ImageCommand};
use crate::client::{Client, connect, connect_functions};
use crate::error::{Error, Exit};
use crate::payload;
use crate::target::Target;

/// Where results go, and in which form.
#[derive(Debug, Clone, Copy)]
struct Show {
    format: Format,
}

impl Show {
    /// One JSON document, or lines for people.
    fn result<T: Serialize>(
        self,
        document: impl FnOnce() -> T,
        text: impl FnOnce(&mut io::StdoutLock<'static>) -> io::Result<()>,
    ) -> Result<(), Error> {
        let mut out = io::stdout().lock();
        match self.format {
            Format::Json => {
                serde_json::to_writer(&mut out, &document()).map_err(io::Error::from)?;
                writeln!(out)?;
            }
            Format::Text => text(&mut out)?,
        }
        Ok(out.flush()?)
    }
}

/// Carries a command out.
pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Error> {
    let show = Show {
        format: arguments.output,
    };
    let said = arguments.target.as_deref();
    if let Command::Target { url } = &arguments.command {
        return target(show, said, url.as_deref());
    }
    // After what was given is found good: a slip is told without a daemon, too.
    let open = async || connect(&Target::find(said)?).await;
    let open_functions = async || connect_functions(&Target::find(said)?).await;
    match arguments.command {
        Command::Target { .. } => Ok(Exit::Ok),
        Command::Info => info(show, &mut open().await?).await,
        Command::Create(create) => containers::create(show, &mut open().await?, create).await,
        Command::List => containers::list(show, &mut open().await?).await,
        Command::Function {
            container,
            function,
        } => {
            let code = payload::code(&function.source, function.binary)?;
            function::load(show, &mut open().await?, container, code, function).await
        }
        Command::Request {
            container,
            request,
            deadline_ms,
        } => {
            let json = payload::request(&request)?;
            function::request(show, &mut open().await?, container, json, deadline_ms).await
        }
        Command::Restore { container } => {
            containers::restore(show, &mut open().await?, container).await
        }
        Command::Status { container } => {
            containers::status(show, &mut open().await?, container).await
        }
        Command::Logs {
            container: _,
            function: Some(function),
            follow,
        } => logs::of_function(show, &mut open_functions().await?, function, follow).await,
        Command::Logs {
            container,
            function: None,
            follow,
        } => {
            let container = container.unwrap_or_default();
            logs::of_container(show, &mut open().await?, container, follow).await
        }
        Command::Deploy(given) => {
            let function = functions::described(given)?;
            functions::deploy(show, &mut open_functions().await?, function).await
        }
        Command::Invoke {
            function,
            request,
            deadline_ms,
        } => {
            let json = payload::request(&request)?;
            let client = &mut open_functions().await?;
            functions::invoke(show, client, function, json, deadline_ms).await
        }
        Command::Functions => functions::list(show, &mut open_functions().await?).await,
        Command::Delete { names } => {
            functions::delete(show, &mut open_functions().await?, names).await
        }
        Command::Top { once } => top::top(show, &mut open_functions().await?, once).await,
        Command::Rm { named, ids, all } => {
            let ids = named.into_iter().chain(ids).collect();
            containers::remove(show, &mut open().await?, ids, all).await
        }
        Command::Image(ImageCommand::Import { file }) => {
            images::import(show, &mut open().await?, &file).await
        }
        Command::Image(ImageCommand::List) => images::list(show, &mut open().await?).await,
        Command::Run(given) => match &given.image {
            Some(image) => {
                let plan = container::Plan {
                    code: payload::code_of_file(&given.function.file)?,
                    event: payload::request(&given.event)?,
                    image: image.clone(),
                    main: given.function.main,
                    handler: given.function.handler,
                    env: given.function.env.into_iter().collect(),
                    memory_bytes: given.memory.map_or(0, |size| size.0),
                    deadline_ms: given.deadline_ms,
                };
                container::run(show, &mut open().await?, plan).await
            }
            None => run::run(show, &given).await,
        },
        Command::Serve(given) => serve::serve(show, &given).await,
        Command::Build(given) => build::build(show, &given),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { folder } => manual::pages(&folder),
    }
}

fn target(show: Show, said: Option<&str>, url: Option<&str>) -> Result<Exit, Error> {
    let target = match url {
        Some(url) => {
            let target = Target::parse(url)?;
            target.remember()?;
            target
        }
        None => Target::find(said)?,
    };
    show.result(
        || json!({"target": target.url()}),
        |out| writeln!(out, "{}", target.url()),
    )?;
    Ok(Exit::Ok)
}

async fn info(show: Show, client: &mut Client) -> Result<Exit, Error> {
    let info = client.info(api::InfoRequest {}).await?.into_inner();
    show.result(
        || {
            json!({
                "version": info.version,
                "containerd": {
                    "version": info.containerd_version,
                    "address": info.containerd_address,
                    "private": info.private_containerd,
                },
                "namespace": info.namespace,
                "containers": info.containers,
            })
        },
        |out| {
            let private = if info.private_containerd {
                ", private"
            } else {
                ""
            };
            writeln!(out, "refunctiond  {}", info.version)?;
            writeln!(
                out,
                "containerd   {} at {}{private}",
                info.containerd_version, info.containerd_address
            )?;
            writeln!(out, "namespace    {}", info.namespace)?;
            writeln!(out, "containers   {}", info.containers)
        },
    )?;
    Ok(Exit::Ok)
}
