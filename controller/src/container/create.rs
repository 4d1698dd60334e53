//! Making a function container out of an image, completely or not at all.

use std::collections::{BTreeMap, HashMap};
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use prost::Message;
use prost_types::Any;
use tracing::{info, warn};

use super::remove::{self, Part};
use super::spec::{self, CGROUP_PARENT, SpecError, Wanted};
use super::{Container, Ended, Identity, label};
use crate::config::{DEFAULT_MEMORY_BYTES, DEFAULT_PIDS};
use crate::containerd::api::containerd::runc::v1::Options;
use crate::containerd::api::containerd::services::containers::v1::{
    Container as Record, CreateContainerRequest, container::Runtime,
};
use crate::containerd::api::containerd::services::snapshots::v1::PrepareSnapshotRequest;
use crate::containerd::api::containerd::services::tasks::v1::{CreateTaskRequest, StartRequest};
use crate::containerd::client::Doing;
use crate::containerd::images::{self, ImageError, Prepared};
use crate::containerd::{ContainerdError, SNAPSHOTTER};
use crate::host;
use crate::logs::unix_ms;
use crate::network::{self, NetworkError, Whose};
use crate::registry::Registry;

/// Fewer bytes and no runtime boots.
pub(crate) const MIN_MEMORY_BYTES: u64 = 16 * 1024 * 1024;

/// Fewer and there is no room for supervisor, template and worker.
pub(crate) const MIN_PIDS: u32 = 8;

/// How long a supervisor may take until it is ready. Loading a large runtime with
/// many libraries from a cold disk takes tens of seconds.
const BOOT: Duration = Duration::from_secs(120);

/// A host name may have 63 characters, and the id is one.
const MAX_ID: usize = 63;

/// The runtime that starts containers.
pub(super) const RUNTIME: &str = "io.containerd.runc.v2";

/// What somebody wants to have made.
#[derive(Debug, Clone, Default)]
pub struct Recipe {
    /// The image's name or a short form of it.
    pub image: String,
    /// The id; chosen if absent.
    pub name: Option<String>,
    /// Bytes; the default if absent.
    pub memory_bytes: Option<u64>,
    /// Processes and threads; the default if absent.
    pub pids: Option<u32>,
    /// Variables that go over the image's.
    pub env: BTreeMap<String, String>,
    /// The pool that it is made for, if any.
    pub pool: Option<String>,
}

/// Why there is no container.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// A wish cannot be fulfilled by anyone.
    #[error("{0}")]
    Invalid(String),
    /// The id is taken.
    #[error(
        "there is a container {0} already; choose another --name, or remove it with `funk rm {0}`"
    )]
    Exists(String),
    /// The image cannot be used.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The container cannot be described.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The description cannot be written down.
    #[error("writing the container's specification")]
    Encode(#[from] serde_json::Error),
    /// A file of its own could not be made.
    #[error("making {}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Whatever failed, this is probably why: not all say it.
    #[error("there is no room left on the disk of {}: {source}", path.display())]
    NoRoom {
        /// A directory on it.
        path: PathBuf,
        /// What failed.
        source: Box<CreateError>,
    },
    /// containerd refused.
    #[error(transparent)]
    Containerd(#[from] ContainerdError),
    /// It has not the network that it was to have.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// It died before it was ready.
    #[error("the container ended before its supervisor was ready: {0}")]
    Ended(Arc<Ended>),
    /// Whoever wanted it went away.
    #[error("its creator hung up")]
    Abandoned,
    /// It did not get ready.
    #[error("the container's supervisor was not ready within {} s{}", BOOT.as_secs(), said(last_words))]
    NotReady {
        /// The last lines that it printed.
        last_words: Vec<String>,
    },
}

fn said(words: &[String]) -> String {
    if words.is_empty() {
        String::new()
    } else {
        format!("; it said: {}", super::ended::brief(words))
    }
}

/// Makes a container and waits until its supervisor is ready. What was made is
/// removed again if anything fails, or `abandoned` resolves: then nobody wants it
/// any more.
///
/// # Errors
/// See [`CreateError`].
pub async fn create(
    registry: &Registry,
    recipe: Recipe,
    abandoned: impl Future<Output = ()>,
) -> Result<Arc<Container>, CreateError> {
    let begun = Instant::now();
    let memory_bytes = recipe.memory_bytes.unwrap_or(DEFAULT_MEMORY_BYTES);
    let pids = recipe.pids.unwrap_or(DEFAULT_PIDS);
    check(&recipe, memory_bytes, pids)?;
    registry.network().check()?;
    let image = images::prepare(registry.containerd(), &recipe.image).await?;
    let id = match &recipe.name {
        Some(name) => name.clone(),
        None => choose_id(&image.name),
    };
    let container = Container::new(
        Identity {
            directory: registry.directory_of(&id),
            // Another daemon on this host may have a container of the same id.
            cgroup: format!("{CGROUP_PARENT}/{id}-{}", &random()[..8]),
            id: id.clone(),
            image: image.name.clone(),
            memory_bytes,
            pids,
            created_unix_ms: unix_ms(),
            pool: recipe.pool.clone(),
            pod: None,
        },
        registry.cgroups(),
    );
    let making = container.lifecycle.lock().await;
    // From here on it is seen, and news of it arrive.
    if !registry.reserve(&container) {
        return Err(CreateError::Exists(id));
    }
    let mut made = Vec::new();
    let result = async {
        make(registry, &container, &image, &recipe.env, &mut made).await?;
        tokio::select! {
            ready = tokio::time::timeout(BOOT, container.ready()) => match ready {
                Ok(ready) => ready.map_err(CreateError::Ended),
                Err(_) => Err(CreateError::NotReady {
                    last_words: container.logs.last_words(5),
                }),
            },
            () = abandoned => Err(CreateError::Abandoned),
        }
    }
    .await;
    match result {
        Ok(()) => {
            let us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            container.create_us.store(us, Ordering::Relaxed);
            info!(container = id, image = image.name, us, "created");
            drop(making);
            Ok(container)
        }
        Err(error) => {
            container.forget();
            match remove::parts(registry, &container, &made).await {
                Ok(()) => registry.release(&id),
                Err(left) => {
                    warn!(container = id, error = %left, "something of a failed creation is left; trying again");
                    registry.leave(&id);
                }
            }
            Err(match host::without_room(registry.places()) {
                Some(path) => CreateError::NoRoom {
                    path: path.to_owned(),
                    source: Box::new(error),
                },
                None => error,
            })
        }
    }
}

fn check(recipe: &Recipe, memory_bytes: u64, pids: u32) -> Result<(), CreateError> {
    if let Some(name) = &recipe.name {
        check_id(name).map_err(CreateError::Invalid)?;
    }
    if memory_bytes < MIN_MEMORY_BYTES {
        return Err(CreateError::Invalid(format!(
            "{memory_bytes} bytes of memory are too few: a container needs at least {} MiB",
            MIN_MEMORY_BYTES >> 20
        )));
    }
    if pids < MIN_PIDS {
        return Err(CreateError::Invalid(format!(
            "{pids} processes are too few: a container needs at least {MIN_PIDS}"
        )));
    }
    for (name, value) in &recipe.env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(CreateError::Invalid(format!(
                "{name:?} cannot be an environment variable"
            )));
        }
    }
    Ok(())
}

/// What containerd and a host name both allow.
fn check_id(id: &str) -> Result<(), String> {
    let alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let fits = id.len() <= MAX_ID
        && alphanumeric(id.chars().next())
        && alphanumeric(id.chars().last())
        && id
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_')
        && !id.contains("--")
        && !id.contains("..")
        && !id.contains("__");
    if fits {
        Ok(())
    } else {
        Err(format!(
            "{id:?} cannot be a container's name: use up to {MAX_ID} letters, digits and single dots, dashes or underscores between them"
        ))
    }
}

fn random() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// The image's last word and something random.
fn choose_id(image: &str) -> String {
    let word: String = image
        .rsplit('/')
        .next()
        .unwrap_or(image)
        .chars()
        .take_while(|c| *c != ':' && *c != '@')
        .filter(char::is_ascii_alphanumeric)
        .take(20)
        .collect();
    let random = random();
    if word.is_empty() {
        format!("function-{}", &random[..8])
    } else {
        format!("{word}-{}", &random[..8])
    }
}

async fn make(
    registry: &Registry,
    container: &Arc<Container>,
    image: &Prepared,
    env: &BTreeMap<String, String>,
    made: &mut Vec<Part>,
) -> Result<(), CreateError> {
    let containerd = registry.containerd();
    let id = &container.id;

    if containerd_knows(registry, id).await? {
        return Err(CreateError::Exists(id.clone()));
    }
    // Of an earlier life that nobody removed: the id is free, so is this.
    let _ = std::fs::remove_dir_all(container.directory());
    made.push(Part::Directory);
    let files = directories(container)?;
    let spec = spec::build(&Wanted {
        id,
        cgroup: &container.cgroup,
        image: &image.config,
        env,
        memory_bytes: container.memory_bytes,
        pids: container.pids,
        control: &container.control(),
        files: &files,
        cgroups: registry.cgroups(),
    })?;

    made.push(Part::Snapshot);
    let rootfs = containerd
        .snapshots()
        .prepare(PrepareSnapshotRequest {
            snapshotter: SNAPSHOTTER.into(),
            key: id.clone(),
            parent: image.parent.clone(),
            // Nothing refers to it until the record does.
            labels: HashMap::from([
                (
                    "containerd.io/gc.root".to_owned(),
                    prost_types::Timestamp::from(std::time::SystemTime::now()).to_string(),
                ),
                // So that one without a record is known for ours, and for this daemon's.
                (label::MANAGED.to_owned(), "1".to_owned()),
                (
                    label::DIRECTORY.to_owned(),
                    container.directory().display().to_string(),
                ),
            ]),
        })
        .await
        .doing(|| "preparing the root filesystem".into())?
        .mounts;

    let options = options(registry);
    made.push(Part::Record);
    containerd
        .containers()
        .create(CreateContainerRequest {
            container: Some(Record {
                id: id.clone(),
                labels: labels(container),
                image: image.name.clone(),
                runtime: Some(Runtime {
                    name: RUNTIME.into(),
                    options: options.clone(),
                }),
                spec: Some(specification(serde_json::to_vec(&spec)?)),
                snapshotter: SNAPSHOTTER.into(),
                snapshot_key: id.clone(),
                created_at: None,
            }),
        })
        .await
        .doing(|| "recording the container".into())?;

    made.push(Part::Network);
    made.push(Part::Task);
    let [stdout, stderr] = container.output.urls();
    let pid = containerd
        .tasks()
        .create(CreateTaskRequest {
            container_id: id.clone(),
            rootfs,
            stdin: String::new(),
            stdout,
            stderr,
            terminal: false,
            options,
        })
        .await
        .doing(|| "creating the container's init".into())?
        .pid;
    join_network(registry, container, pid).await?;
    container.attend();
    let pid = containerd
        .tasks()
        .start(StartRequest {
            container_id: id.clone(),
        })
        .await
        .doing(|| "starting the container's init".into())?
        .pid;
    container.runs_as(pid);
    Ok(())
}

/// What the runtime is told beside the specification: runc's own place for its notes is the
/// same for every containerd of the host.
pub(super) fn options(registry: &Registry) -> Option<Any> {
    registry.runc_root().map(|root| Any {
        type_url: "containerd.runc.v1.Options".into(),
        value: Options {
            root: root.display().to_string(),
        }
        .encode_to_vec(),
    })
}

/// A specification in JSON, as a record has it.
pub(super) fn specification(value: Vec<u8>) -> Any {
    Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/Spec".into(),
        value,
    }
}

/// Before the container's program is started, so that it never runs without.
async fn join_network(
    registry: &Registry,
    container: &Container,
    pid: u32,
) -> Result<(), CreateError> {
    let whose = Whose {
        container: &container.id,
        unique: container.unique(),
        directory: container.directory(),
    };
    let Some(joined) = registry.network().attach(whose, pid).await? else {
        return Ok(());
    };
    // Written over, not replaced: the container is shown these very files.
    for (name, text) in [
        ("hosts", network::hosts(&container.id, &joined.addresses)),
        ("resolv.conf", joined.resolv_conf),
    ] {
        let path = container.directory().join(name);
        std::fs::write(&path, text).map_err(|source| file(&path, source))?;
    }
    Ok(())
}

/// Another program may use the id in the same namespace; its container is not
/// ours to replace, or to remove when something fails.
async fn containerd_knows(registry: &Registry, id: &str) -> Result<bool, ContainerdError> {
    Ok(registry
        .records()
        .await?
        .iter()
        .any(|record| record.id == id))
}

fn labels(container: &Container) -> HashMap<String, String> {
    let pool = container
        .pool
        .clone()
        .map(|pool| (label::POOL.into(), pool));
    let own = [
        (label::MANAGED.into(), "1".into()),
        (
            label::DIRECTORY.into(),
            container.directory().display().to_string(),
        ),
        (label::MEMORY.into(), container.memory_bytes.to_string()),
        (label::CGROUP.into(), container.cgroup.clone()),
        (label::PIDS.into(), container.pids.to_string()),
    ];
    own.into_iter().chain(pool).collect()
}

/// The container's directories and the files that it is shown.
fn directories(container: &Container) -> Result<Vec<(PathBuf, &'static str)>, CreateError> {
    let directory = container.directory();
    for path in [&directory.join("output"), &container.control()] {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| file(path, source))?;
    }
    let id = &container.id;
    let files = [
        ("hosts", "/etc/hosts", network::hosts(id, &[])),
        ("hostname", "/etc/hostname", format!("{id}\n")),
        // Without a network there is nobody to ask.
        ("resolv.conf", "/etc/resolv.conf", String::new()),
    ];
    let mut shown = Vec::new();
    for (name, place, text) in files {
        let path = directory.join(name);
        std::fs::write(&path, text)
            // A function's own user reads them, whatever this process's umask.
            .and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(0o644)))
            .map_err(|source| file(&path, source))?;
        shown.push((path, place));
    }
    Ok(shown)
}

fn file(path: &Path, source: io::Error) -> CreateError {
    CreateError::File {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_what_containerd_and_host_names_allow() {
        for good in ["a", "python-1", "A.b_c", "0"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", "-a", "a-", "a--b", "../x", "a/b", "ä", "a b", &long] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn chosen_ids_are_valid_and_tell_the_image() {
        for image in [
            "docker.io/refunction/python:1",
            "x@sha256:abc",
            "///",
            "a/--:1",
        ] {
            let id = choose_id(image);
            assert!(check_id(&id).is_ok(), "{image} {id}");
        }
        assert!(choose_id("docker.io/refunction/python:1").starts_with("python-"));
    }

    #[test]
    fn impossible_wishes_are_refused_before_anything_is_made() {
        let mut recipe = Recipe::default();
        assert!(check(&recipe, DEFAULT_MEMORY_BYTES, DEFAULT_PIDS).is_ok());
        assert!(check(&recipe, 1024, DEFAULT_PIDS).is_err());
        assert!(check(&recipe, DEFAULT_MEMORY_BYTES, 1).is_err());
        recipe.env.insert("A=B".into(), String::new());
        assert!(check(&recipe, DEFAULT_MEMORY_BYTES, DEFAULT_PIDS).is_err());
    }
}
