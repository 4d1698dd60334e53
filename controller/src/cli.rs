//! The daemon's command line.

use std::path::PathBuf;

use clap::Parser;

use crate::config::{Config, LogFormat, NetworkMode};
use crate::gateway::Place;

/// The host daemon of refunction: makes function containers through containerd
/// and serves the control socket that `funk` uses.
///
/// What is said here goes over the configuration file, and that over the defaults.
#[derive(Debug, Clone, Parser)]
#[command(name = "refunctiond", version)]
pub struct Arguments {
    /// The configuration file; /etc/refunction/refunctiond.toml, if it exists and no
    /// other is named.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Say what is wrong with the configuration, and end: with 0 if nothing is.
    #[arg(long, value_name = "FILE", num_args = 0..=1, conflicts_with = "config")]
    pub check_config: Option<Option<PathBuf>>,

    /// Remove everything that refunction made on this host, and end: containers, images,
    /// networks, functions, mounts, sockets, directories. The configuration says where
    /// they are. Containers of pods are kubelet's, and go on.
    #[arg(long, conflicts_with = "check_config")]
    pub purge: bool,

    /// With --purge: only say what would be removed.
    #[arg(long, requires = "purge")]
    pub dry_run: bool,

    /// With --purge: end a daemon that runs, first.
    #[arg(long, requires = "purge", conflicts_with = "dry_run")]
    pub end_daemon: bool,

    /// Print the manual page, and end.
    #[arg(long, hide = true)]
    pub man: bool,

    /// The socket of a running containerd; /run/containerd/containerd.sock by default.
    #[arg(long, value_name = "SOCKET")]
    pub containerd_address: Option<PathBuf>,

    /// Start a containerd of one's own; it ends with the daemon, and so do its
    /// containers.
    #[arg(long, conflicts_with = "containerd_address")]
    pub private_containerd: bool,

    /// The directory for what lives as long as the containers do; /run/refunction by
    /// default.
    #[arg(long, value_name = "DIRECTORY")]
    pub state_dir: Option<PathBuf>,

    /// The directory for what lives longer: a private containerd's images, and which
    /// containers are attached to a network; /var/lib/refunction by default.
    #[arg(long, value_name = "DIRECTORY")]
    pub root_dir: Option<PathBuf>,

    /// The control socket; /run/refunction/refunction.sock by default.
    #[arg(long, value_name = "SOCKET")]
    pub socket: Option<PathBuf>,

    /// How the log on standard error is written: a line for people (the default), or a
    /// JSON object a line.
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,

    /// containerd's namespace in which everything is done; refunction by default.
    #[arg(long)]
    pub namespace: Option<String>,

    /// What containers can reach that are made with `funk`: nothing (the default), or
    /// what the host's CNI plugins connect them to.
    #[arg(long, value_enum)]
    pub network: Option<NetworkMode>,

    /// Where CNI networks are described; /etc/cni/net.d by default.
    #[arg(long, value_name = "DIRECTORY")]
    pub cni_conf_dir: Option<PathBuf>,

    /// Where CNI's plugins are; may be given several times. /opt/cni/bin and
    /// /usr/lib/cni by default.
    #[arg(long, value_name = "DIRECTORY")]
    pub cni_bin_dir: Vec<PathBuf>,

    /// The CNI network; by default that of the first file in the directory.
    #[arg(long, value_name = "NAME")]
    pub cni_network: Option<String>,

    /// Serve functions over HTTP here: an address with a port, or unix:/PATH; may be given
    /// several times. What other hosts can reach needs a token.
    #[arg(long, value_name = "PLACE")]
    pub gateway: Vec<Place>,

    /// The file with the token that the gateway's callers have to show.
    #[arg(long, value_name = "FILE")]
    pub gateway_token_file: Option<PathBuf>,

    /// Also serve kubelet: a socket of the Container Runtime Interface, to name in
    /// its --container-runtime-endpoint. Containers of pods with the annotation
    /// `refunction` become function containers; everything else is containerd's.
    #[arg(long, value_name = "SOCKET", conflicts_with = "private_containerd")]
    pub cri_socket: Option<PathBuf>,

    /// Send traces of calls to this OpenTelemetry collector, by OTLP over gRPC, such as
    /// http://127.0.0.1:4317.
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

impl Arguments {
    /// Puts what was said here in the place of what the file says.
    pub fn lay_over(self, config: &mut Config) {
        fn set<T>(setting: &mut T, said: Option<T>) {
            if let Some(said) = said {
                *setting = said;
            }
        }
        if self.containerd_address.is_some() {
            config.containerd.private = false;
        }
        config.containerd.private |= self.private_containerd;
        set(&mut config.containerd.address, self.containerd_address);
        set(&mut config.containerd.namespace, self.namespace);
        set(&mut config.state_dir, self.state_dir);
        set(&mut config.root_dir, self.root_dir);
        set(&mut config.socket, self.socket);
        set(&mut config.log_format, self.log_format);
        set(&mut config.network.mode, self.network);
        set(&mut config.network.conf_dir, self.cni_conf_dir);
        set(
            &mut config.network.bin_dirs,
            Some(self.cni_bin_dir).filter(|it| !it.is_empty()),
        );
        set(&mut config.network.name, self.cni_network.map(Some));
        set(
            &mut config.gateway.listen,
            Some(self.gateway).filter(|it| !it.is_empty()),
        );
        set(
            &mut config.gateway.token_file,
            self.gateway_token_file.map(Some),
        );
        set(&mut config.cri.socket, self.cri_socket.map(Some));
        set(&mut config.traces.endpoint, self.otlp_endpoint.map(Some));
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

    #[test]
    fn a_check_may_name_its_file() {
        let read = |line: &[&str]| Arguments::try_parse_from(line).unwrap().check_config;
        assert_eq!(read(&["refunctiond"]), None);
        assert_eq!(read(&["refunctiond", "--check-config"]), Some(None));
        assert_eq!(
            read(&["refunctiond", "--check-config", "/x"]),
            Some(Some("/x".into()))
        );
    }
}
