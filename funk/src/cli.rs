//! The command line: what it takes and how it explains itself.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::size::Size;

const EXIT_CODES: &str = "\
Exit codes:
  0  it worked
  1  the function raised, or could not be loaded
  2  the command, or what it was given, is wrong
  3  there is no such container or image
  4  refunctiond does not answer
  5  a deadline passed
  6  the function crashed or ran out of memory, or its container ended
  7  too many requests wait already
  8  anything else
  130  interrupted";

/// Run functions in containers that are put back to their snapshot in between.
#[derive(Debug, Parser)]
#[command(name = "funk", version, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// Where refunctiond listens, such as unix:///run/refunction/refunction.sock;
    /// `funk target -u` remembers one.
    #[arg(long, global = true, env = "REFUNCTION_TARGET", value_name = "URL")]
    pub(crate) target: Option<String>,

    /// For people, or one JSON document on standard output.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How results are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Remember where refunctiond listens, or show it.
    Target {
        /// The address to remember, such as unix:///run/refunction/refunction.sock.
        #[arg(short, long)]
        url: Option<String>,
    },
    /// Show who serves, and with which containerd.
    Info,
    /// Make a function container.
    Create(Create),
    /// Show the containers.
    List,
    /// Load a function into a container.
    Function {
        /// The container.
        #[arg(short, long, value_name = "ID")]
        container: String,
        #[command(flatten)]
        function: FunctionArguments,
    },
    /// Call the function that a container holds.
    Request {
        /// The container.
        #[arg(short, long, value_name = "ID")]
        container: String,
        /// The argument: JSON, @FILE, or - for standard input.
        #[arg(short, long, value_name = "JSON")]
        request: String,
        /// Milliseconds after which the call is given up.
        #[arg(long, value_name = "MS")]
        deadline_ms: Option<u64>,
    },
    /// Put a container back to its snapshot.
    Restore {
        /// The container.
        #[arg(short, long, value_name = "ID")]
        container: String,
    },
    /// Ask a container's supervisor what it is doing.
    Status {
        /// The container.
        #[arg(short, long, value_name = "ID")]
        container: String,
    },
    /// Show what a container printed.
    Logs {
        /// The container.
        #[arg(short, long, value_name = "ID")]
        container: String,
        /// Go on with what it prints from now on. With --output json, one document
        /// a line.
        #[arg(short, long)]
        follow: bool,
    },
    /// Remove containers.
    Rm {
        /// The containers.
        #[arg(short = 'c', long = "container", value_name = "ID", num_args = 1..)]
        named: Vec<String>,
        /// The containers.
        #[arg(value_name = "ID", required_unless_present_any = ["all", "named"])]
        ids: Vec<String>,
        /// Every container.
        #[arg(long, conflicts_with_all = ["ids", "named"])]
        all: bool,
    },
    /// Images that containers are made of.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Make a container, load a function, call it, show the result, and remove the
    /// container again.
    Run {
        /// The function's file.
        file: String,
        /// The argument: JSON, @FILE, or - for standard input.
        #[arg(long, value_name = "JSON", default_value = "null")]
        event: String,
        /// The image to make the container of.
        #[arg(long, default_value = "refunction/python")]
        image: String,
        /// The entry: a function's name, called as main(args).
        #[arg(long, value_name = "NAME", conflicts_with = "handler")]
        main: Option<String>,
        /// The entry as module.function, called as handler(event, context).
        #[arg(long, value_name = "MODULE.FUNCTION")]
        handler: Option<String>,
        /// A variable of the function's.
        #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
        env: Vec<(String, String)>,
        /// Bytes the container may hold, such as 256M.
        #[arg(long, value_name = "SIZE")]
        memory: Option<Size>,
        /// Milliseconds after which the call is given up.
        #[arg(long, value_name = "MS")]
        deadline_ms: Option<u64>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The image, such as refunction/python; `funk image list` shows them.
    #[arg(short, long)]
    pub(crate) image: String,
    /// The container's id; chosen if not given.
    #[arg(short, long)]
    pub(crate) name: Option<String>,
    /// Bytes it may hold, such as 256M; 512M if not given.
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<Size>,
    /// Processes and threads it may have; 1024 if not given.
    #[arg(long, value_name = "N")]
    pub(crate) pids: Option<u32>,
    /// A variable of the container's.
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct FunctionArguments {
    /// A file, - for standard input, or the source itself.
    #[arg(
        short = 'f',
        long = "function",
        value_name = "FILE|SOURCE",
        allow_hyphen_values = true
    )]
    pub(crate) source: String,
    /// The entry: a function's name, called as main(args).
    #[arg(long, value_name = "NAME", conflicts_with = "handler")]
    pub(crate) main: Option<String>,
    /// The entry as module.function, called as handler(event, context).
    #[arg(long, value_name = "MODULE.FUNCTION")]
    pub(crate) handler: Option<String>,
    /// A variable of the function's.
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// What it is given is a zip archive; seen by itself if it is a file.
    #[arg(long)]
    pub(crate) binary: bool,
    /// Milliseconds a call may take unless its request says otherwise.
    #[arg(long, value_name = "MS")]
    pub(crate) deadline_ms: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Take in an image archive, as docker save, podman save or buildah push write it.
    Import {
        /// The archive.
        file: PathBuf,
    },
    /// Show the images.
    List,
}

/// `NAME=VALUE`; the value may be empty and may have further equals signs.
fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_original_commands_are_taken() {
        for line in [
            "funk target -u unix:///x",
            "funk list",
            "funk function -c a -f x.py",
            "funk request -c a -r {}",
            "funk request -c a -r -",
            "funk restore -c a",
            "funk rm a b",
            "funk rm -c a",
            "funk rm --all",
            "funk --output json list",
            "funk list --output json",
        ] {
            let parsed = Arguments::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
        for line in [
            "funk rm",
            "funk rm --all a",
            "funk request -c a",
            "funk create",
        ] {
            assert!(
                Arguments::try_parse_from(line.split(' ')).is_err(),
                "{line}"
            );
        }
    }

    #[test]
    fn a_variables_value_may_be_anything() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(variable("A="), Ok(("A".into(), String::new())));
        assert!(variable("A").is_err());
        assert!(variable("=b").is_err());
    }
}
