//! The daemon's command line.

use std::path::PathBuf;

use clap::Parser;

/// The host daemon of refunction: makes function containers through containerd
/// and serves the control socket that `funk` uses.
#[derive(Debug, Clone, Parser)]
#[command(name = "refunctiond", version)]
pub struct Arguments {
    /// The socket of a running containerd.
    #[arg(
        long,
        value_name = "SOCKET",
        default_value = "/run/containerd/containerd.sock"
    )]
    pub containerd_address: PathBuf,

    /// Start a containerd of one's own; it ends with the daemon, and so do its
    /// containers.
    #[arg(long, conflicts_with = "containerd_address")]
    pub private_containerd: bool,

    /// The directory for what lives as long as the containers do.
    #[arg(long, value_name = "DIRECTORY", default_value = "/run/refunction")]
    pub state_dir: PathBuf,

    /// The directory for what lives longer: a private containerd's images.
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/refunction")]
    pub root_dir: PathBuf,

    /// The control socket.
    #[arg(
        long,
        value_name = "SOCKET",
        default_value = "/run/refunction/refunction.sock"
    )]
    pub socket: PathBuf,

    /// containerd's namespace in which everything is done.
    #[arg(long, default_value = "refunction")]
    pub namespace: String,
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
    fn a_private_containerd_excludes_a_given_one() {
        let both = [
            "refunctiond",
            "--private-containerd",
            "--containerd-address",
            "/x",
        ];
        assert!(Arguments::try_parse_from(both).is_err());
        let private = Arguments::try_parse_from(["refunctiond", "--private-containerd"]).unwrap();
        assert!(private.private_containerd);
    }
}
