//! The network of containers that the daemon makes itself: none but loopback, or
//! what the host's CNI plugins build. Never anything in between: where a network
//! was asked for and cannot be had, there is no container.
//!
//! A container's network namespace is runc's, and so lives as long as the container.
//! While it is attached it is also mounted in the container's directory: plugins undo
//! their work completely only where the namespace still is, the container may have
//! died before, and its process id may be another's by then.

mod attachment;
mod conflist;
mod files;
mod plugin;

use std::io;
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use crate::config;
use attachment::Attachment;
use plugin::Plugins;

pub use conflist::{Conflist, ConflistError};
pub(crate) use files::hosts;
pub use plugin::PluginError;

/// Why a container has not the network that was asked for, or something of it is left.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No network to join.
    #[error("{0}; --network none makes containers with loopback only")]
    Conflist(#[from] ConflistError),
    /// A plugin failed.
    #[error("the network {network:?}: {source}")]
    Plugin {
        /// The network's name.
        network: String,
        /// What the plugin did.
        source: PluginError,
    },
    /// A file of its own.
    #[error("{doing} {}: {source}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// What was taken for the container's namespace is not its own.
    #[error("process {0} has the host's network, not one of its own")]
    NotItsOwn(u32),
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NetworkError {
    let path = path.to_owned();
    move |source| NetworkError::File {
        doing,
        path,
        source,
    }
}

/// What a container was given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Joined {
    /// Its addresses.
    pub(crate) addresses: Vec<String>,
    /// What its resolver is told.
    pub(crate) resolv_conf: String,
}

/// Which container is meant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whose<'a> {
    /// Its id.
    pub(crate) container: &'a str,
    /// A name that no other container of this host has, of whichever daemon.
    pub(crate) unique: &'a str,
    /// Its directory.
    pub(crate) directory: &'a Path,
}

/// Attaches containers to the network that was chosen, and detaches those that an
/// earlier daemon attached, whatever is chosen now.
#[derive(Debug)]
pub struct Network {
    settings: config::Network,
    /// Where attachments are noted down. It outlives a reboot, as addresses do that
    /// a plugin gave away.
    records: PathBuf,
    /// The daemon's state directory: no two daemons have the same.
    owner: PathBuf,
}

impl Network {
    /// The root directory.
    pub(crate) fn root(&self) -> &Path {
        self.records.parent().unwrap_or(&self.records)
    }

    /// For the daemon that has these directories.
    #[must_use]
    pub fn new(settings: config::Network, root: &Path, state: &Path) -> Self {
        Self {
            settings,
            records: root.join("network"),
            owner: state.to_owned(),
        }
    }

    /// Finds out before there is a container whether it could be attached.
    ///
    /// # Errors
    /// A network was asked for and there is none.
    pub fn check(&self) -> Result<(), NetworkError> {
        match self.settings.mode {
            config::NetworkMode::None => Ok(()),
            config::NetworkMode::Cni => find(&self.settings).map(drop),
        }
    }

    fn record_of(&self, unique: &str) -> PathBuf {
        self.records.join(format!("{unique}.json"))
    }

    /// Attaches a container whose init was created and does nothing yet; none if it
    /// is to have loopback only. After a failure [`detach`](Self::detach) undoes what
    /// was done.
    ///
    /// # Errors
    /// There is no network to join, or a plugin failed.
    pub(crate) async fn attach(
        &self,
        whose: Whose<'_>,
        pid: u32,
    ) -> Result<Option<Joined>, NetworkError> {
        if self.settings.mode == config::NetworkMode::None {
            return Ok(None);
        }
        let record = self.record_of(whose.unique);
        let mut attachment = Attachment {
            container: whose.container.to_owned(),
            unique: whose.unique.to_owned(),
            owner: self.owner.clone(),
            netns: whose.directory.join("netns"),
            search: self.settings.bin_dirs.clone(),
            network: find(&self.settings)?,
            result: None,
        };
        // Before anything is done, so that a daemon that comes after this one undoes it.
        attachment.write(&record)?;
        attachment::pin(&attachment.netns, pid)?;
        let result = Plugins::new(&attachment).add().await?;
        let joined = Joined {
            addresses: files::addresses(&result),
            resolv_conf: files::resolv_conf(&result),
        };
        attachment.result = Some(result);
        attachment.write(&record)?;
        info!(
            container = whose.container,
            network = attachment.network.name,
            addresses = joined.addresses.join(" "),
            "attached"
        );
        Ok(Some(joined))
    }

    /// Undoes an attachment, whole or half done; nothing to do if there is none.
    ///
    /// # Errors
    /// Something is left; trying again continues.
    pub(crate) async fn detach(&self, unique: &str) -> Result<(), NetworkError> {
        let record = self.record_of(unique);
        let Some(attachment) = Attachment::read(&record)? else {
            return Ok(());
        };
        Plugins::new(&attachment).del().await?;
        attachment::unpin(&attachment.netns)?;
        std::fs::remove_file(&record).map_err(file("removing", &record))
    }

    /// What is still attached, or half attached, of daemons with the same state directory.
    pub(crate) fn noted(&self) -> Vec<String> {
        let read = |path: PathBuf| Attachment::read(&path).ok().flatten();
        attachment::all(&self.records)
            .into_iter()
            .filter_map(read)
            .filter(|it| it.owner == self.owner)
            .map(|it| it.unique)
            .collect()
    }

    /// Detaches what earlier daemons with the same state directory attached, whose
    /// containers are not known any more.
    pub(crate) async fn sweep(&self, is_known: impl Fn(&str) -> bool) {
        for path in attachment::all(&self.records) {
            let unique = match Attachment::read(&path) {
                Ok(Some(it)) if it.owner == self.owner && !is_known(&it.container) => it.unique,
                Ok(_) => continue,
                Err(error) => {
                    warn!(%error, "an attachment to a network cannot be read");
                    continue;
                }
            };
            match self.detach(&unique).await {
                Ok(()) => info!(container = unique, "detached what was left of it"),
                Err(error) => warn!(container = unique, %error, "still attached"),
            }
        }
    }
}

/// The network to join, with all its programs there: none of them is called if one
/// cannot be, as what was done could not be undone either.
pub(crate) fn find(settings: &config::Network) -> Result<Conflist, NetworkError> {
    let network = conflist::find(&settings.conf_dir, settings.name.as_deref())?;
    for program in network.programs() {
        if let Err(source) = plugin::locate(program, &settings.bin_dirs) {
            return Err(NetworkError::Plugin {
                network: network.name.clone(),
                source,
            });
        }
    }
    Ok(network)
}

#[cfg(test)]
mod tests;
