//! What the supervisor can be told, on its command line or by its environment.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use refunction_snapshot::Scan;

use crate::runtime::Runtime;

/// The variables that say where an image keeps its function's files; the second is Lambda's.
pub(crate) const ROOT_VARIABLES: [&str; 2] = ["FUNCTION_ROOT", "LAMBDA_TASK_ROOT"];

/// Where that is if neither does.
const FUNCTION_ROOT: &str = "/var/task";

/// PID 1 of a function container: loads a language runtime once, and puts the
/// process back to that moment after each tenant's function.
///
/// Without --control it speaks newline-delimited JSON on stdin and stdout.
#[derive(Debug, Clone, Parser)]
#[command(name = "refunction-supervisor", version)]
pub(crate) struct Settings {
    /// The function that this container is for, such as app.handler: imported once, from
    /// $FUNCTION_ROOT, and in the snapshot. Without it functions come one after another.
    #[arg(value_name = "HANDLER")]
    pub(crate) handler: Option<String>,

    /// Which runtime to load.
    #[arg(long, env = "REFUNCTION_RUNTIME", value_enum, default_value_t)]
    pub(crate) runtime: Runtime,

    /// Listen on this Unix socket instead of stdin and stdout.
    #[arg(long, env = "REFUNCTION_CONTROL", value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,

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

    /// Libraries to import into the template, comma-separated.
    #[arg(
        long,
        env = "REFUNCTION_PRELOAD",
        value_name = "LIBRARY",
        value_delimiter = ','
    )]
    pub(crate) preload: Vec<String>,

    /// Milliseconds that a call may take where neither it nor its function says
    /// so; 0 for no limit.
    #[arg(
        long,
        env = "REFUNCTION_DEADLINE_MS",
        value_name = "MS",
        default_value_t = 60_000
    )]
    pub(crate) deadline_ms: u64,

    /// Restores after which another template takes over: a new hash seed, a new
    /// address-space layout, new canaries; 0 for never.
    #[arg(
        long,
        env = "REFUNCTION_ROTATE_AFTER",
        value_name = "RESTORES",
        default_value_t = 10_000
    )]
    pub(crate) rotate_after: u64,

    /// Seconds after which, at the next restore, another template is started to take
    /// over; 0 for never.
    #[arg(
        long,
        env = "REFUNCTION_ROTATE_SECONDS",
        value_name = "SECONDS",
        default_value_t = 3_600
    )]
    pub(crate) rotate_seconds: u64,

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

    /// The one place where the template's forks may make files; for the supervisor's own
    /// use.
    #[arg(long, hide = true, value_name = "PATH", requires = "as_template")]
    pub(crate) private_directory: Option<PathBuf>,
}

impl Settings {
    /// The libraries to preload; an empty variable names none.
    pub(crate) fn libraries(&self) -> Vec<String> {
        self.preload
            .iter()
            .map(|name| name.trim().to_string())
            .filter(|name| !name.is_empty())
            .collect()
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        (self.deadline_ms > 0).then(|| Duration::from_millis(self.deadline_ms))
    }

    /// Where the image keeps its function's files.
    pub(crate) fn function_root(&self) -> PathBuf {
        ROOT_VARIABLES
            .iter()
            .find_map(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
            .unwrap_or_else(|| FUNCTION_ROOT.into())
            .into()
    }

    /// The arguments with which this program becomes the template.
    pub(crate) fn template_arguments(&self) -> Vec<String> {
        let runtime = self.runtime.to_possible_value();
        let mut arguments = vec![
            "--as-template".to_string(),
            "--worker-uid".to_string(),
            self.worker_uid.to_string(),
            "--runtime".to_string(),
            runtime.map_or_else(String::new, |value| value.get_name().to_string()),
        ];
        let libraries = self.libraries();
        #[cfg(feature = "sabotage")]
        if let Some(sabotage) = &self.sabotage {
            arguments.extend(["--sabotage".to_string(), sabotage.clone()]);
        }
        if !libraries.is_empty() {
            arguments.extend(["--preload".to_string(), libraries.join(",")]);
        }
        if let Some(handler) = &self.handler {
            arguments.extend(["--".to_string(), handler.clone()]);
        }
        arguments
    }
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
