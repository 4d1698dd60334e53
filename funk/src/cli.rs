//! The command line: what it takes and how it explains itself.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use refunction_protocol::Size;

use crate::build::Builder;
use crate::source::Runtime;

const EXIT_CODES: &str = "\
Exit codes:
  0  it worked
  1  the function raised, or could not be loaded
  2  the command, or what it was given, is wrong
  3  there is no such container, image or function
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
    /// Show what a container printed, or a function that is called by its name.
    Logs {
        /// The container.
        #[arg(short, long, value_name = "ID", required_unless_present = "function")]
        container: Option<String>,
        /// The function: what it printed in whichever container.
        #[arg(long, value_name = "NAME", conflicts_with = "container")]
        function: Option<String>,
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
    /// Give refunctiond a function that is called by its name, in containers that it
    /// makes and shares out by itself. One that has the name already is replaced.
    Deploy(Deploy),
    /// Call a function by its name.
    Invoke {
        /// The function.
        #[arg(value_name = "NAME")]
        function: String,
        /// The argument: JSON, @FILE, or - for standard input.
        #[arg(short, long, value_name = "JSON", default_value = "{}")]
        request: String,
        /// Milliseconds after which the call is given up, its waiting included.
        #[arg(long, value_name = "MS")]
        deadline_ms: Option<u64>,
    },
    /// Show the functions that are called by their names.
    Functions,
    /// Delete functions that are called by their names.
    Delete {
        /// The functions.
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    /// Watch the node: its containers and what they hold, its functions, how many calls and
    /// restores there are and how long they take. Ctrl-C ends it.
    Top {
        /// Show it once, counted since refunctiond began; so it is with --output json and
        /// where the output is no terminal.
        #[arg(long)]
        once: bool,
    },
    /// Images that containers are made of.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Call a function once, on this machine and without a container: the same supervisor
    /// as in an image imports the file and gets the event. The result is printed, and what
    /// the function prints goes to standard error. With --image all of it happens in a
    /// container of refunctiond's instead.
    Run(Run),
    /// Serve a function over HTTP, on this machine and without a container, and import it
    /// anew whenever a file of its folder changes. Ctrl-C ends it.
    Serve(Serve),
    /// Make an image of a folder that has no Dockerfile.
    Build(Build),
    /// Print what completes funk's commands in a shell:
    /// `funk completions bash > /etc/bash_completion.d/funk`.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write funk's manual pages into a folder, such as /usr/local/share/man/man1.
    Man {
        /// The folder.
        folder: PathBuf,
    },
}

/// A function of this machine's, and who runs it.
#[derive(Debug, Args)]
pub(crate) struct LocalArguments {
    /// The function's file: .py, .js, .mjs, .cjs, .lua, .jar or .class. Its folder is the
    /// function's own.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The runtime, where a file may be for several: JavaScript is for node where a
    /// package.json stands beside it, and for javascript (QuickJS) elsewhere.
    #[arg(long, value_enum)]
    pub(crate) runtime: Option<Runtime>,
    /// The function: its name, or module.function, or package.Class::method. If nothing is
    /// said it is `handler`, or `main` where there is no handler.
    #[arg(long, value_name = "HANDLER", conflicts_with = "main")]
    pub(crate) handler: Option<String>,
    /// The same, by the name that it has where functions are loaded as source.
    #[arg(long, value_name = "NAME", hide = true)]
    pub(crate) main: Option<String>,
    /// A variable of the function's.
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// The supervisor's program; if nothing is said the one beside funk, or in PATH.
    #[arg(long, env = "REFUNCTION_SUPERVISOR", value_name = "PATH")]
    pub(crate) supervisor: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) function: LocalArguments,
    /// The argument: JSON, @FILE, or - for standard input.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub(crate) event: String,
    /// Milliseconds after which the call is given up.
    #[arg(long, value_name = "MS")]
    pub(crate) deadline_ms: Option<u64>,
    /// Have refunctiond make a container of this image for the call, which has a supervisor
    /// of its own.
    #[arg(long, conflicts_with = "runtime")]
    pub(crate) image: Option<String>,
    /// Bytes the container may hold, such as 256M.
    #[arg(long, value_name = "SIZE", requires = "image")]
    pub(crate) memory: Option<Size>,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) function: LocalArguments,
    /// The port; 0 for one that is free.
    #[arg(short, long, default_value_t = 8080)]
    pub(crate) port: u16,
    /// The address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) host: String,
}

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The folder.
    #[arg(value_name = "FOLDER", default_value = ".")]
    pub(crate) folder: PathBuf,
    /// The image's name.
    #[arg(
        short,
        long,
        value_name = "NAME",
        required_unless_present = "print_dockerfile"
    )]
    pub(crate) tag: Option<String>,
    /// Print the Dockerfile that it would be built with, and build nothing.
    #[arg(long)]
    pub(crate) print_dockerfile: bool,
    /// The file that the function is in, where the folder has several.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The function, as `funk run` takes it.
    #[arg(long, value_name = "HANDLER")]
    pub(crate) handler: Option<String>,
    /// The runtime, as `funk run` takes it.
    #[arg(long, value_enum)]
    pub(crate) runtime: Option<Runtime>,
    /// The image to build upon; refunction/RUNTIME if nothing is said.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) base: Option<String>,
    /// Who builds it: docker where its engine answers, otherwise buildah.
    #[arg(long, value_enum)]
    pub(crate) builder: Option<Builder>,
    /// Arguments for the builder's own build command.
    #[arg(last = true, value_name = "ARGUMENT")]
    pub(crate) rest: Vec<String>,
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
pub(crate) struct Deploy {
    /// The function's name: letters, digits, dots, dashes and underscores.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) function: FunctionArguments,
    /// The image whose containers run it, such as refunction/python; `funk image list`
    /// shows them. If nothing is said it is that of the runtime which the file is for.
    #[arg(short, long)]
    pub(crate) image: Option<String>,
    /// The runtime, in the place of an image: that is refunction/RUNTIME.
    #[arg(long, value_enum, conflicts_with = "image")]
    pub(crate) runtime: Option<Runtime>,
    /// Bytes that a container for it may hold, such as 256M.
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<Size>,
    /// Calls of it that run at once; any number if not given.
    #[arg(long, value_name = "N")]
    pub(crate) max_concurrency: Option<u32>,
    /// Seconds for which an idle container keeps it, unless another function needs the
    /// place.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) keep_warm: Option<u64>,
    /// Only if there is no function of this name yet.
    #[arg(long, conflicts_with = "revision")]
    pub(crate) new: bool,
    /// Only if it has this revision.
    #[arg(long, value_name = "N")]
    pub(crate) revision: Option<u64>,
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
    /// A library that it imports, to be there imported already when it is loaded; where none
    /// is named, those that its source shows. Its variable REFUNCTION_LIBRARIES says the same.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) library: Vec<String>,
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
            "funk run app.py --event {}",
            "funk run app.py --image refunction/python --memory 64M",
            "funk serve app.py --port 0",
            "funk build -t me/fn . -- --network host",
            "funk build --print-dockerfile",
            "funk --output json list",
            "funk list --output json",
            "funk logs -c a -f",
            "funk logs --function a -f",
            "funk deploy a -f x.py --image refunction/python --memory 64M --keep-warm 0",
            "funk deploy a -f x.py --runtime python --handler x.handler --env A=b",
            "funk deploy a -f x.py --max-concurrency 2 --deadline-ms 50 --new",
            "funk invoke a",
            "funk invoke a -r {} --deadline-ms 50",
            "funk functions",
            "funk delete a b",
            "funk top --once",
        ] {
            let parsed = Arguments::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
        for line in [
            "funk rm",
            "funk rm --all a",
            "funk request -c a",
            "funk create",
            "funk run",
            "funk run app.py --memory 64M",
            "funk build .",
            "funk logs",
            "funk logs -c a --function a",
            "funk deploy -f x.py",
            "funk deploy a",
            "funk deploy a -f x.py --image a --runtime python",
            "funk deploy a -f x.py --new --revision 1",
            "funk delete",
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
