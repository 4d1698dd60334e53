//! Who builds images on this machine.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::ValueEnum;

use crate::error::Error;

/// A program that builds an image from a Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Builder {
    Docker,
    Buildah,
}

impl Builder {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Buildah => "buildah",
        }
    }

    /// The one there is: docker if its engine answers, otherwise buildah.
    pub(crate) fn find() -> Result<Self, Error> {
        [Self::Docker, Self::Buildah]
            .into_iter()
            .find(|builder| builder.works())
            .ok_or_else(|| {
                Error::Here(
                    "nobody here can build an image: neither does the engine of docker answer, nor is there buildah; --print-dockerfile shows what would be built"
                        .into(),
                )
            })
    }

    /// True if it can build.
    fn works(self) -> bool {
        let arguments: &[&str] = match self {
            // Of the engine, which need not run where the command is.
            Self::Docker => &["version", "--format", "{{.Server.Version}}"],
            Self::Buildah => &["--version"],
        };
        succeeds(Command::new(self.name()).args(arguments))
    }

    /// Builds an image; what it says goes to standard error.
    pub(crate) fn build(
        self,
        context: &Path,
        dockerfile: &Path,
        tag: &str,
        rest: &[String],
    ) -> Result<(), Error> {
        let name = self.name();
        let errors = io::stderr().as_fd().try_clone_to_owned();
        let status = Command::new(name)
            .args(["build", "--tag", tag, "--file"])
            .arg(dockerfile)
            .args(rest)
            .arg(context)
            .stdin(Stdio::null())
            .stdout(errors.map_or_else(|_| Stdio::null(), Stdio::from))
            .status()
            .map_err(|error| Error::Here(format!("starting {name}: {error}")))?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Here(format!("{name} could not build it: {status}")))
    }

    /// True if it has this image.
    pub(crate) fn has(self, image: &str) -> bool {
        let arguments: &[&str] = match self {
            Self::Docker => &["image", "inspect", image],
            Self::Buildah => &["inspect", "--type=image", image],
        };
        succeeds(Command::new(self.name()).args(arguments))
    }
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
