//! A function of this machine's over HTTP, as it is in its folder at any moment.

use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use serde_json::json;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::Show;
use super::interruption::Interruption;
use super::run::source;
use crate::cli::{Format, Serve};
use crate::display::duration_us;
use crate::error::{Error, Exit};
use crate::local::{self, Backend, Local, Output, Plan, Proxy, TreeWatch};

pub(super) async fn serve(show: Show, given: &Serve) -> Result<Exit, Error> {
    let mut interruption = Interruption::new()?;
    let root = source(&given.function)?.root;
    let supervisor = local::find(given.function.supervisor.as_deref())?;
    // Before it is imported for the first time: what changes meanwhile counts.
    let mut tree = TreeWatch::new(&root)
        .map_err(|error| Error::Here(format!("watching {}: {error}", root.display())))?;
    let proxy = Proxy::listen(&given.host, given.port)
        .await
        .map_err(|error| unusable(given, &error))?;
    announce(show, &proxy)?;
    let mut service = Service {
        given,
        supervisor: &supervisor,
        proxy,
        serving: None,
        retired: JoinSet::new(),
        ending: watch::Sender::new(false),
    };
    let outcome = tokio::select! {
        failed = service.live(&mut tree) => failed,
        () = interruption.comes() => Ok(()),
    };
    service.end().await;
    outcome.map(|()| Exit::Ok)
}

fn unusable(given: &Serve, error: &io::Error) -> Error {
    let (host, port) = (&given.host, given.port);
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "; --port names another, and 0 one that is free",
        _ => "",
    };
    Error::Usage(format!("listening on {host}, port {port}: {error}{hint}"))
}

fn announce(show: Show, proxy: &Proxy) -> Result<(), Error> {
    let url = format!("http://{}", proxy.address());
    if show.format == Format::Json {
        show.result(|| json!({"url": url}), |_| Ok(()))?;
    }
    say(&format!("listening on {url}"));
    Ok(())
}

/// What a person who looks at the terminal wants to know.
fn say(what: &str) {
    let _ = writeln!(io::stderr(), "funk: {what}");
}

/// A supervisor that serves, and what hears when its last request is answered.
struct Serving {
    local: Local,
    unused: oneshot::Receiver<()>,
}

struct Service<'a> {
    given: &'a Serve,
    supervisor: &'a Path,
    proxy: Proxy,
    serving: Option<Serving>,
    /// What answers its last requests.
    retired: JoinSet<()>,
    ending: watch::Sender<bool>,
}

impl Service<'_> {
    /// Serves, until there is a reason not to that is not the function's own.
    async fn live(&mut self, tree: &mut TreeWatch) -> Result<(), Error> {
        let watching = |error| Error::Here(format!("watching the function's folder: {error}"));
        loop {
            // Who asks from now on means what is in the folder now.
            self.proxy.hold();
            let begun = Instant::now();
            let started = tokio::select! {
                started = self.start() => started,
                // Dropped, and so killed, is what was about to be the function.
                changed = tree.changed() => {
                    say_changed(&changed.map_err(watching)?);
                    continue;
                }
            };
            match started {
                Ok((local, handler)) => {
                    let started = &local.started;
                    let spent = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                    say(&format!(
                        "{handler} is ready after {}, on {} {}",
                        duration_us(spent),
                        started.runtime,
                        started.version
                    ));
                    let (backend, unused) = Backend::new(local.http());
                    self.proxy.serve(backend);
                    self.serving = Some(Serving { local, unused });
                }
                Err(error) => self.fail(&error),
            }
            let changed = loop {
                let Some(serving) = &mut self.serving else {
                    break tree.changed().await;
                };
                tokio::select! {
                    changed = tree.changed() => break changed,
                    error = serving.local.ended() => {
                        self.serving = None;
                        self.fail(&error);
                    }
                }
            };
            self.retire();
            say_changed(&changed.map_err(watching)?);
        }
    }

    async fn start(&self) -> Result<(Local, String), Error> {
        let source = source(&self.given.function)?;
        let plan = Plan {
            supervisor: self.supervisor,
            source: &source,
            env: &self.given.function.env,
            output: Output::Same,
        };
        let local = Local::start(&plan).await?;
        Ok((local, source.handler))
    }

    /// Requests are answered with the reason, until a change removes it.
    fn fail(&self, error: &Error) {
        let reason = match error {
            Error::Function(failure) => failure.message.clone(),
            other => other.to_string(),
        };
        say(&reason);
        say("requests are answered with this until a file changes");
        self.proxy.fail(&reason);
    }

    /// Has the one that serves answer what it was asked, and no more.
    fn retire(&mut self) {
        self.proxy.hold();
        let Some(serving) = self.serving.take() else {
            return;
        };
        let mut ending = self.ending.subscribe();
        self.retired.spawn(async move {
            let Serving { mut local, unused } = serving;
            let drained = async {
                let _ = unused.await;
                local.drain().await;
            };
            let ended = async {
                let _ = ending.wait_for(|it| *it).await;
            };
            let is_drained = tokio::select! {
                () = drained => true,
                () = ended => false,
            };
            if !is_drained {
                local.stop().await;
            }
        });
        // Those that have ended.
        while self.retired.try_join_next().is_some() {}
    }

    /// Ends everything at once.
    async fn end(mut self) {
        self.ending.send_replace(true);
        self.retire();
        while self.retired.join_next().await.is_some() {}
    }
}

fn say_changed(path: &Path) {
    say(&format!("{} has changed", path.display()));
}
