//! What the supervisor can be told, on its command line or by its environment.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use refunction_snapshot::Scan;

use crate::authority::Authority;
use crate::container::MOST_LAYERS;
use crate::front::Place;
use crate::memory;
use crate::runtime::Runtime;

/// The variables that say where an image keeps its function's files; the second is Lambda's.
pub(crate) const ROOT_VARIABLES: [&str; 2] = ["FUNCTION_ROOT", "LAMBDA_TASK_ROOT"];

/// What an application speaks, which its adapter asks for.
pub(crate) const INTERFACE_VARIABLE: &str = "REFUNCTION_INTERFACE";

/// Where HTTP is spoken if nothing is said.
const HTTP_PORT: u16 = 8080;

/// Milliseconds that a call may take if nothing is said.
const DEADLINE_MS: u64 = 60_000;

/// When another template takes over if nothing is said.
const ROTATE_AFTER: u64 = 10_000;
const ROTATE_SECONDS: u64 = 3_600;

/// Requests that may run at a time.
const MOST_AT_ONCE: u64 = 256;

/// Where that is if neither does.
const FUNCTION_ROOT: &str = "/var/task";

/// PID 1 of a function container: loads a language runtime once, and puts the
/// process back to that moment after each tenant's function.
///
/// Without --control it speaks newline-delimited JSON on stdin and stdout.
#[derive(Debug, Clone, Parser)]
#[command(name = "refunction-supervisor", version)]
pub(crate) struct Settings {
    /// The function that this container is for, such as app.handler, or with Python's
    /// runtime a WSGI or ASGI application, such as app:app: imported once, from
    /// $FUNCTION_ROOT, and in the snapshot. Without it functions come one after another.
    #[arg(value_name = "HANDLER")]
    pub(crate) handler: Option<String>,

    /// Which runtime to load.
    #[arg(long, env = "REFUNCTION_RUNTIME", value_enum, default_value_t)]
    pub(crate) runtime: Runtime,

    /// Listen on this Unix socket instead of stdin and stdout.
    #[arg(long, env = "REFUNCTION_CONTROL", value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,

    /// Speak HTTP, on --port; meant where there is a HANDLER or a PORT.
    #[arg(long, env = "REFUNCTION_HTTP", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) http: bool,

    /// Where to speak HTTP: 8080 if nothing is said.
    #[arg(long, env = "PORT", value_name = "PORT")]
    pub(crate) port: Option<u16>,

    /// Poll Lambda's runtime API there for invocations of HANDLER, or of $_HANDLER where
    /// none is given; and listen only if --http or --port says so, too.
    #[arg(long, env = "AWS_LAMBDA_RUNTIME_API", value_name = "HOST:PORT")]
    runtime_api: Option<String>,
    /// What an application speaks, where that cannot be seen from it.
    #[arg(long, env = INTERFACE_VARIABLE, value_enum)]
    pub(crate) interface: Option<Interface>,
    /// Speak HTTP on this Unix socket and on no port; for who starts the supervisor on the
    /// machine where he asks it.
    #[arg(long, value_name = "PATH", conflicts_with = "port")]
    pub(crate) http_socket: Option<PathBuf>,

    /// End in order when standard input ends, and so with whoever holds its other end.
    #[arg(long, requires = "control")]
    pub(crate) end_with_input: bool,

    /// When a function's state is put back: after each request, which is meant where
    /// there is a HANDLER; when another function comes, which is meant otherwise; or never.
    #[arg(long, env = "REFUNCTION_ISOLATION", value_enum)]
    pub(crate) isolation: Option<Isolation>,

    /// HTTP requests that are run at a time, each in a worker of its own: one if nothing is
    /// said. Where it is said there is a worker more, so that none waits for a restore. More
    /// than one need root, and a runtime that is forked.
    #[arg(
        long,
        env = "REFUNCTION_CONCURRENCY",
        value_name = "REQUESTS",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=MOST_AT_ONCE)
    )]
    concurrency: Option<usize>,

    /// HTTP requests that may wait while others run; more are answered 429.
    #[arg(
        long,
        env = "REFUNCTION_QUEUE",
        value_name = "REQUESTS",
        default_value_t = 100
    )]
    pub(crate) queue: usize,

    /// Milliseconds that an HTTP client gets for the headers of a request, for its body, and
    /// to take the answer.
    #[arg(
        long,
        env = "REFUNCTION_HTTP_PATIENCE_MS",
        value_name = "MS",
        default_value_t = 30_000,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub(crate) http_patience_ms: u64,

    /// How the container's own output has what functions print where it speaks HTTP.
    #[arg(long, env = "REFUNCTION_LOG", value_enum, default_value_t)]
    pub(crate) log: LogFormat,

    /// How to bring a worker back.
    #[arg(long, env = "REFUNCTION_METHOD", value_enum, default_value_t)]
    pub(crate) method: MethodChoice,

    /// How to find the pages that a function wrote.
    #[arg(long, env = "REFUNCTION_SCAN", value_enum, default_value_t)]
    pub(crate) scan: ScanChoice,

    /// After every rewind compare all that can be read of the worker with its
    /// snapshot; on a difference say so on stderr, and refork.
    #[arg(long, env = "REFUNCTION_VERIFY", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) verify: bool,

    /// Have a worker stand by, so that who comes after a function whose worker cannot be
    /// rewound need not wait for another to be forked. It has a user of its own, one of those
    /// that follow --worker-uid. For root, where workers are forked, and functions come one
    /// after another or several requests run at a time.
    #[arg(long, env = "REFUNCTION_SPARE", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) spare: bool,

    /// MiB that layers may take, and no more than half of what the container may have: templates
    /// with those libraries imported that functions declare or import, grown from the first
    /// one. None if nothing is said.
    #[arg(
        long,
        env = "REFUNCTION_LAYERS_MIB",
        value_name = "MIB",
        default_value_t = 0
    )]
    layers_mib: u64,

    /// Libraries to import into the template, comma-separated.
    #[arg(
        long,
        env = "REFUNCTION_PRELOAD",
        value_name = "LIBRARY",
        value_delimiter = ','
    )]
    pub(crate) preload: Vec<String>,

    /// Milliseconds that a call may take where neither it nor its function says
    /// so; 0 for no limit. 60000 if nothing is said, by $AWS_LAMBDA_FUNCTION_TIMEOUT
    /// neither.
    #[arg(long, env = "REFUNCTION_DEADLINE_MS", value_name = "MS")]
    pub(crate) deadline_ms: Option<u64>,

    /// Lambda's way to say it, in seconds.
    #[arg(long, hide = true, env = "AWS_LAMBDA_FUNCTION_TIMEOUT")]
    pub(crate) timeout_seconds: Option<u64>,

    /// Restores after which another template takes over: a new hash seed, a new
    /// address-space layout, new canaries; 0 for never. 10000 if nothing is said, and
    /// never where there is a HANDLER: its only tenant would import it again.
    #[arg(long, env = "REFUNCTION_ROTATE_AFTER", value_name = "RESTORES")]
    rotate_after: Option<u64>,

    /// Seconds after which, at the next restore, another template is started to take
    /// over; 0 for never. 3600 if nothing is said, and never where there is a HANDLER.
    #[arg(long, env = "REFUNCTION_ROTATE_SECONDS", value_name = "SECONDS")]
    rotate_seconds: Option<u64>,

    /// MiB by which what the container holds in memory may have grown, page cache aside,
    /// before another template takes over; looked at now and then; 0 for never.
    #[arg(
        long,
        env = "REFUNCTION_ROTATE_MEMORY_MIB",
        value_name = "MIB",
        default_value_t = 128
    )]
    pub(crate) rotate_memory_mib: u64,

    /// Milliseconds that work in flight gets when the container is told to stop.
    #[arg(
        long,
        env = "REFUNCTION_GRACE_MS",
        value_name = "MS",
        default_value_t = 8_000
    )]
    pub(crate) grace_ms: u64,

    /// The user and group id that workers run with, when started as root.
    #[arg(
        long,
        env = "REFUNCTION_WORKER_UID",
        value_name = "UID",
        default_value_t = 64_533,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub(crate) worker_uid: u32,

    /// Take every file here for the container's own though this is not its PID 1, as after
    /// the init that `docker run --init` starts first: what was not there at boot is removed.
    #[arg(long, env = "REFUNCTION_OWN_CONTAINER", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) own_container: bool,

    /// The handler to leave out, and after an @ the file that is to say that it was
    /// asked for (docs/mutants.md).
    #[cfg(feature = "sabotage")]
    #[arg(long, hide = true, env = "REFUNCTION_SABOTAGE")]
    pub(crate) sabotage: Option<String>,

    /// List the handlers that can be left out, and end.
    #[cfg(feature = "sabotage")]
    #[arg(long, hide = true)]
    pub(crate) handlers: bool,

    /// Run as the template; for the supervisor's own use.
    #[arg(long, hide = true)]
    pub(crate) as_template: bool,

    /// A place where the template's forks may make files, if they have the supervisor's
    /// user; for the supervisor's own use.
    #[arg(long, hide = true, value_name = "PATH", requires = "as_template")]
    pub(crate) files_in: Vec<PathBuf>,
}

impl Settings {
    /// What the command line and the environment say.
    pub(crate) fn read() -> Self {
        let mut settings = Self::parse();
        if settings.runtime_api().is_some() && settings.handler.is_none() {
            let named = std::env::var("_HANDLER").ok();
            settings.handler = named.filter(|handler| !handler.is_empty());
        }
        settings
    }

    /// MiB that layers of libraries may take.
    pub(crate) fn layers_mib(&self) -> u64 {
        let half = memory::limit().map_or(u64::MAX, |bytes| (bytes >> 20) / 2);
        self.layers_mib.min(half)
    }

    /// The libraries to preload; an empty variable names none.
    pub(crate) fn libraries(&self) -> Vec<String> {
        self.preload
            .iter()
            .map(|name| name.trim().to_string())
            .filter(|name| !name.is_empty())
            .collect()
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        let seconds = self
            .timeout_seconds
            .map(|seconds| seconds.saturating_mul(1_000));
        let limit = self.deadline_ms.or(seconds).unwrap_or(DEADLINE_MS);
        (limit > 0).then(|| Duration::from_millis(limit))
    }

    /// When a function's state is put back.
    pub(crate) fn isolation(&self) -> Isolation {
        self.isolation.unwrap_or(match self.handler {
            Some(_) => Isolation::Request,
            None => Isolation::Session,
        })
    }

    /// True if what the command names is an application, such as app:app, which answers
    /// whole requests.
    pub(crate) fn is_application(&self) -> bool {
        let is_python = self.runtime.name() == "python";
        is_python && self.handler.as_ref().is_some_and(|it| it.contains(':'))
    }

    /// True if stdout is for people, and not for a peer.
    pub(crate) fn speaks_to_people(&self) -> bool {
        self.http_place().is_some() || self.runtime_api().is_some() || self.control.is_some()
    }

    /// What Lambda's functions find in their environment, where nobody set it.
    pub(crate) fn lambda_variables(&self) -> Vec<(&'static str, String)> {
        let Some(handler) = &self.handler else {
            return Vec::new();
        };
        let seconds = self
            .deadline()
            .map(|limit| limit.as_millis().div_ceil(1_000));
        let seconds = seconds.map(|seconds| ("AWS_LAMBDA_FUNCTION_TIMEOUT", seconds.to_string()));
        let others = [
            ("_HANDLER", handler.clone()),
            ("AWS_LAMBDA_FUNCTION_HANDLER", handler.clone()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128".to_string()),
            ("AWS_LAMBDA_FUNCTION_NAME", "function".to_string()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_string()),
        ];
        others
            .into_iter()
            .chain(seconds)
            .filter(|(name, _)| std::env::var_os(name).is_none())
            .collect()
    }

    /// Restores after which another template takes over; 0 for never.
    pub(crate) fn rotate_after(&self) -> u64 {
        self.rotate_after.unwrap_or(match self.handler {
            Some(_) => 0,
            None => ROTATE_AFTER,
        })
    }

    /// Seconds after which another template takes over; 0 for never.
    pub(crate) fn rotate_seconds(&self) -> u64 {
        self.rotate_seconds.unwrap_or(match self.handler {
            Some(_) => 0,
            None => ROTATE_SECONDS,
        })
    }

    /// Where to speak HTTP, if that is to be.
    pub(crate) fn http_place(&self) -> Option<Place> {
        if let Some(path) = &self.http_socket {
            return Some(Place::Socket(path.clone()));
        }
        // Where invocations are fetched nobody brings any.
        let is_meant = self.handler.is_some() && self.runtime_api().is_none();
        let is_wanted = self.http || self.port.is_some() || is_meant;
        is_wanted.then(|| Place::Port(self.port.unwrap_or(HTTP_PORT)))
    }

    /// Where Lambda's runtime API is, if it is to be polled.
    pub(crate) fn runtime_api(&self) -> Option<&str> {
        self.runtime_api
            .as_deref()
            .filter(|address| !address.is_empty())
    }

    /// Requests that run at a time.
    pub(crate) fn concurrency(&self) -> usize {
        self.concurrency.unwrap_or(1)
    }

    /// True if workers are beside others.
    pub(crate) fn is_concurrent(&self) -> bool {
        if self.as_template {
            // It is told so, and no more.
            return self.concurrency.is_some();
        }
        self.workers() > 1
    }

    /// How many workers there are: where each is put back after its request, one more than
    /// requests at a time, if anything is said of those and it can be.
    pub(crate) fn workers(&self) -> usize {
        let is_wanted = self.concurrency.is_some() && self.isolation() == Isolation::Request;
        let more = is_wanted && self.alone_because().is_none();
        self.concurrency() + usize::from(more)
    }

    /// The users that workers have who run beside others: each one, and some to choose from
    /// when one is not to be used again for a while.
    pub(crate) fn users(&self) -> Range<u32> {
        // And one for each that stands by, of the first template and of each layer, with one
        // to change.
        let standing_by = if self.spare { 2 + MOST_LAYERS } else { 0 };
        let users = 3 * self.workers() + 1 + standing_by;
        let users = u32::try_from(users).unwrap_or(u32::MAX);
        self.worker_uid..self.worker_uid.saturating_add(users)
    }

    /// What cannot be together.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.concurrency() > 1
            && let Some(reason) = self.alone_because()
        {
            return Err(reason);
        }
        if self.isolation() == Isolation::Off && self.handler.is_none() {
            return Err(
                "--isolation off is for the one function that a HANDLER names: others would share a worker",
            );
        }
        if self.runtime_api().is_some() && self.handler.is_none() {
            return Err(
                "AWS_LAMBDA_RUNTIME_API is set, and no function is named: neither by the command nor by _HANDLER",
            );
        }
        Ok(())
    }

    /// Why there can be one worker only, if there can.
    fn alone_because(&self) -> Option<&'static str> {
        if self.http_place().is_none() || self.control.is_some() {
            Some(
                "--concurrency is for requests over HTTP: what comes over a control channel has one worker",
            )
        } else if self.isolation() == Isolation::Session {
            Some(
                "--concurrency needs --isolation request: a session is one worker's, and several would each have their own",
            )
        } else if self.runtime.is_program() {
            Some(
                "--concurrency is for runtimes whose workers are forked from a template: Node.js and Java would boot for each, and run one request at a time",
            )
        } else if !matches!(Authority::own(), Authority::Full) {
            Some(
                "--concurrency needs root and its capabilities: requests beside one another are kept apart by a user for each worker",
            )
        } else {
            None
        }
    }

    /// Where the image keeps its function's files.
    pub(crate) fn function_root(&self) -> PathBuf {
        ROOT_VARIABLES
            .iter()
            .find_map(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
            .unwrap_or_else(|| FUNCTION_ROOT.into())
            .into()
    }

    /// The arguments with which this program becomes the template, but for the handler, which
    /// comes after all others.
    pub(crate) fn template_arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            "--as-template".to_string(),
            "--worker-uid".to_string(),
            self.worker_uid.to_string(),
            "--runtime".to_string(),
            self.runtime.name().to_string(),
        ];
        if self.is_concurrent() {
            arguments.extend(["--concurrency".to_string(), self.concurrency().to_string()]);
        }
        let libraries = self.libraries();
        #[cfg(feature = "sabotage")]
        if let Some(sabotage) = &self.sabotage {
            arguments.extend(["--sabotage".to_string(), sabotage.clone()]);
        }
        if !libraries.is_empty() {
            arguments.extend(["--preload".to_string(), libraries.join(",")]);
        }
        arguments
    }
}

/// What an application speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Interface {
    /// As PEP 3333 has it.
    Wsgi,
    /// Version 3.
    Asgi,
}

/// When a function's state is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Isolation {
    /// After each request.
    Request,
    /// When another function comes, or when told to.
    Session,
    /// Only when told to.
    Off,
}

/// How what functions print is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LogFormat {
    /// As they printed it, on the stream where they did.
    #[default]
    Text,
    /// A JSON object for each line, all on standard output.
    Json,
}

/// How to bring a worker back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum MethodChoice {
    /// Rewind; refork if the worker cannot be rewound.
    #[default]
    Auto,
    /// As auto, and say so on stderr whenever a rewind was refused.
    Rewind,
    /// Always refork: the strict choice.
    Refork,
}

/// How to find the pages that a function wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ScanChoice {
    /// What the kernel has.
    #[default]
    Auto,
    /// `PAGEMAP_SCAN` (Linux 6.7).
    Ioctl,
    /// The pagemap file.
    File,
}

impl From<ScanChoice> for Scan {
    fn from(choice: ScanChoice) -> Self {
        match choice {
            ScanChoice::Auto => Self::Auto,
            ScanChoice::Ioctl => Self::Ioctl,
            ScanChoice::File => Self::File,
        }
    }
}
