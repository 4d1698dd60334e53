//! `refunctiond`.

#![forbid(unsafe_code)]

use std::num::NonZero;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use refunction_controller::cli::Arguments;
use refunction_controller::config::{Config, ConfigError, LogFormat, Source};
use refunction_controller::{daemon, purge};
use tracing::warn;
use tracing_subscriber::EnvFilter;

/// The settings are wrong: starting again would not help.
const WRONG: u8 = 2;

/// Processors for each thread that carries calls, if nothing else is said.
const PROCESSORS_PER_THREAD: usize = 8;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.man {
        let page = clap_mangen::Man::new(Arguments::command()).section("8");
        return match page.render(&mut std::io::stdout()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let checks = arguments.check_config.is_some();
    let purge = arguments.purge.then_some(purge::Options {
        dry_run: arguments.dry_run,
        end_daemon: arguments.end_daemon,
    });
    let (config, source) = match configure(arguments) {
        Ok(configured) => configured,
        Err(error) => {
            eprintln!("refunctiond: {error}");
            return WRONG.into();
        }
    };
    if let Some(options) = purge {
        return match on_threads(1, purge::run(config, options)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("refunctiond: {error}");
                ExitCode::FAILURE
            }
        };
    }
    log(config.log_format);
    let absent = source.place(config.absences());
    if checks {
        for problem in &absent {
            eprintln!("refunctiond: {problem}");
        }
        if !absent.is_empty() {
            return WRONG.into();
        }
        match source.path() {
            Some(path) => println!("{}: OK", path.display()),
            None => println!("no configuration file, and the defaults: OK"),
        }
        return ExitCode::SUCCESS;
    }
    for problem in absent {
        // It may come later; whoever needs it then says so.
        warn!("{problem}");
    }
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = config
        .threads
        .map_or(processors / PROCESSORS_PER_THREAD, |it| {
            usize::try_from(it.get()).unwrap_or(usize::MAX)
        });
    match on_threads(threads.max(1), daemon::run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("refunctiond: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs this, what it spawns being shared by so many threads.
fn on_threads<E: From<std::io::Error>>(
    threads: usize,
    running: impl Future<Output = Result<(), E>>,
) -> Result<(), E> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()?
        .block_on(running)
}

fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter);
    match format {
        LogFormat::Text => log.init(),
        // Fields beside the time and the level, where queries look for them.
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

/// The settings that the file, the command line and the defaults make together.
fn configure(arguments: Arguments) -> Result<(Config, Source), ConfigError> {
    let checked = arguments.check_config.clone().flatten();
    let source = Source::read(checked.or_else(|| arguments.config.clone()).as_deref())?;
    let mut config = source.parse()?;
    arguments.lay_over(&mut config);
    let wrong = config.contradictions();
    if wrong.is_empty() {
        Ok((config, source))
    } else {
        Err(ConfigError::Wrong {
            problems: source.place(wrong),
        })
    }
}
