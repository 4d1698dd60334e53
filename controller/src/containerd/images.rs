//! Images in containerd's store: which there are, what they say, and their root
//! filesystems.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tonic::Code;

use super::SNAPSHOTTER;
use super::api::containerd::services::content::v1::{Info, ReadContentRequest, UpdateRequest};
use super::api::containerd::services::diff::v1::ApplyRequest;
use super::api::containerd::services::images::v1::{Image, ListImagesRequest};
use super::api::containerd::services::snapshots::v1::{
    CommitSnapshotRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest,
};
use super::api::containerd::types::Descriptor;
use super::client::{Containerd, ContainerdError, Doing, unless};
use super::leases::Lease;

/// Bytes that a manifest or configuration may have.
const MAX_DOCUMENT_BYTES: usize = 8 * 1024 * 1024;

/// The label on a configuration by which its snapshot is not collected.
pub(super) const SNAPSHOT_REFERENCE: &str = "containerd.io/gc.ref.snapshot.overlayfs";

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No image answers to the name.
    #[error(
        "there is no image {name:?}; {}; `funk image import FILE.tar` takes one in",
        listing(available)
    )]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The names that there are.
        available: Vec<String>,
    },
    /// The index has nothing for this machine.
    #[error("the image {name:?} is not for {platform}")]
    NoPlatform {
        /// The image.
        name: String,
        /// What was looked for.
        platform: String,
    },
    /// A document of the image cannot be read.
    #[error("the image's {what} {digest} cannot be read: {cause}")]
    Malformed {
        /// Manifest, index or configuration.
        what: &'static str,
        /// Which one.
        digest: String,
        /// What was wrong.
        cause: String,
    },
    /// containerd refused.
    #[error(transparent)]
    Containerd(#[from] ContainerdError),
}

fn listing(available: &[String]) -> String {
    if available.is_empty() {
        "there are no images at all".into()
    } else {
        format!("there are: {}", available.join(", "))
    }
}

/// The media types that mean "one manifest per platform".
const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// A reference from one document to another, as images write it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reference {
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "HashMap::is_empty")]
    pub(super) annotations: HashMap<String, String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Platform {
    architecture: String,
    os: String,
}

impl Platform {
    fn is_this_machine(&self) -> bool {
        self.os == "linux" && self.architecture == architecture()
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    pub(super) manifests: Vec<Reference>,
}

impl Index {
    /// The entry for this machine; an entry that names no platform is for any.
    pub(super) fn for_this_machine(&self) -> Option<&Reference> {
        let fits = |entry: &&Reference| {
            entry
                .platform
                .as_ref()
                .is_some_and(Platform::is_this_machine)
        };
        self.manifests
            .iter()
            .find(fits)
            .or_else(|| self.manifests.iter().find(|entry| entry.platform.is_none()))
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub(super) schema_version: u32,
    pub(super) media_type: Option<String>,
    pub(super) config: Reference,
    pub(super) layers: Vec<Reference>,
}

/// The part of an image's configuration that matters here.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ImageConfig {
    #[serde(default)]
    config: Option<Runtime>,
    #[serde(default)]
    rootfs: RootFs,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Runtime {
    // Docker writes null where nothing is set.
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

impl ImageConfig {
    /// Entry point and command together.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        let Some(runtime) = &self.config else {
            return Vec::new();
        };
        [&runtime.entrypoint, &runtime.cmd]
            .into_iter()
            .flatten()
            .flatten()
            .cloned()
            .collect()
    }

    /// `NAME=value` entries.
    #[must_use]
    pub fn env(&self) -> &[String] {
        self.config
            .as_ref()
            .and_then(|runtime| runtime.env.as_deref())
            .unwrap_or_default()
    }

    /// Where its process starts.
    #[must_use]
    pub fn working_directory(&self) -> &str {
        self.config
            .as_ref()
            .and_then(|runtime| runtime.working_dir.as_deref())
            .filter(|directory| !directory.is_empty())
            .unwrap_or("/")
    }

    /// The digests of the unpacked layers, lowest first.
    pub(super) fn layers(&self) -> &[String] {
        &self.rootfs.diff_ids
    }

    #[cfg(test)]
    pub(crate) fn for_test(entrypoint: &[&str], cmd: &[&str], env: &[&str], cwd: &str) -> Self {
        let owned = |words: &[&str]| Some(words.iter().map(|it| (*it).to_owned()).collect());
        Self {
            config: Some(Runtime {
                entrypoint: owned(entrypoint),
                cmd: owned(cmd),
                env: owned(env),
                working_dir: Some(cwd.to_owned()),
            }),
            rootfs: RootFs::default(),
        }
    }
}

/// An image whose root filesystem is unpacked.
#[derive(Debug)]
pub struct Prepared {
    /// Its whole name.
    pub name: String,
    /// What it says.
    pub config: ImageConfig,
    /// The snapshot on which a container's is stacked.
    pub parent: String,
}

/// An image in a list.
#[derive(Debug)]
pub struct Listed {
    /// The record.
    pub name: String,
    /// The digest of its index or manifest.
    pub digest: String,
    /// Bytes of its documents and layers as they are stored.
    pub size_bytes: u64,
    /// Milliseconds since the Unix epoch.
    pub created_unix_ms: i64,
}

/// All images, by name.
///
/// # Errors
/// containerd's.
pub async fn list(containerd: &Containerd) -> Result<Vec<Listed>, ImageError> {
    let mut listed = Vec::new();
    for image in records(containerd).await? {
        let Some(target) = image.target.clone() else {
            continue;
        };
        // An image whose documents are gone is still worth naming.
        let size_bytes = match manifest(containerd, &image).await {
            Ok((manifest, own)) => manifest
                .layers
                .iter()
                .chain([&manifest.config])
                .map(|part| part.size.max(0).cast_unsigned())
                .sum::<u64>()
                .saturating_add(own),
            Err(_) => 0,
        };
        listed.push(Listed {
            name: image.name,
            digest: target.digest,
            size_bytes,
            created_unix_ms: image
                .created_at
                .map_or(0, |at| at.seconds * 1000 + i64::from(at.nanos) / 1_000_000),
        });
    }
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(listed)
}

/// Finds an image by its name or one of the usual short forms, reads it, and
/// unpacks it if that was not done yet.
///
/// # Errors
/// There is no such image, or it cannot be read or unpacked.
pub async fn prepare(containerd: &Containerd, name: &str) -> Result<Prepared, ImageError> {
    let image = find(containerd, name).await?;
    let (manifest, _) = manifest(containerd, &image).await?;
    let config =
        document::<ImageConfig>(containerd, "configuration", &manifest.config.digest).await?;
    let parent = chain_id(config.layers());
    if !is_unpacked(containerd, &parent).await? {
        // Held until the configuration refers to it.
        let lease = Lease::take(containerd).await?;
        let unpacked = async {
            unpack(lease.containerd(), &manifest, &config).await?;
            label(
                containerd,
                &manifest.config.digest,
                HashMap::from([(SNAPSHOT_REFERENCE.to_owned(), parent.clone())]),
            )
            .await?;
            Ok::<_, ImageError>(())
        }
        .await;
        lease.release().await;
        unpacked?;
    }
    Ok(Prepared {
        name: image.name,
        config,
        parent,
    })
}

/// Looks whether an image answers to a name, without reading it.
///
/// # Errors
/// There is no such image.
pub async fn check(containerd: &Containerd, name: &str) -> Result<(), ImageError> {
    find(containerd, name).await.map(drop)
}

async fn find(containerd: &Containerd, name: &str) -> Result<Image, ImageError> {
    let records = records(containerd).await?;
    let image = candidates(name)
        .iter()
        .find_map(|candidate| records.iter().find(|image| image.name == *candidate));
    image.cloned().ok_or_else(|| ImageError::Unknown {
        name: name.to_owned(),
        available: records.into_iter().map(|image| image.name).collect(),
    })
}

async fn records(containerd: &Containerd) -> Result<Vec<Image>, ContainerdError> {
    Ok(containerd
        .images()
        .list(ListImagesRequest::default())
        .await
        .doing(|| "listing images".into())?
        .images)
}

/// The whole names that a name as people type it may stand for, best first.
fn candidates(name: &str) -> Vec<String> {
    let last = name.rsplit('/').next().unwrap_or(name);
    let tagged = if last.contains(':') || last.contains('@') {
        name.to_owned()
    } else {
        format!("{name}:latest")
    };
    let mut names = vec![name.to_owned(), tagged.clone()];
    // A first part with a dot or a port is a registry already.
    let has_registry = name
        .split_once('/')
        .is_some_and(|(first, _)| first.contains(['.', ':']) || first == "localhost");
    if !has_registry {
        names.push(format!("localhost/{tagged}"));
        names.push(format!("docker.io/{tagged}"));
        if !name.contains('/') {
            names.push(format!("docker.io/library/{tagged}"));
            // The project's own images, by the runtime's name alone.
            names.push(format!("localhost/refunction/{tagged}"));
            names.push(format!("docker.io/refunction/{tagged}"));
        }
    }
    names
}

/// The manifest for this machine and the bytes that it has itself.
async fn manifest(containerd: &Containerd, image: &Image) -> Result<(Manifest, u64), ImageError> {
    let target = image.target.as_ref().ok_or_else(|| ImageError::Malformed {
        what: "record",
        digest: image.name.clone(),
        cause: "it refers to nothing".into(),
    })?;
    if !INDEXES.contains(&target.media_type.as_str()) {
        let size = target.size.max(0).cast_unsigned();
        return Ok((
            document(containerd, "manifest", &target.digest).await?,
            size,
        ));
    }
    let index: Index = document(containerd, "index", &target.digest).await?;
    let entry = index
        .for_this_machine()
        .ok_or_else(|| ImageError::NoPlatform {
            name: image.name.clone(),
            platform: format!("linux/{}", architecture()),
        })?;
    let size = entry.size.max(0).cast_unsigned();
    Ok((document(containerd, "manifest", &entry.digest).await?, size))
}

async fn document<T: for<'de> Deserialize<'de>>(
    containerd: &Containerd,
    what: &'static str,
    digest: &str,
) -> Result<T, ImageError> {
    let malformed = |cause: String| ImageError::Malformed {
        what,
        digest: digest.to_owned(),
        cause,
    };
    let mut stream = containerd
        .content()
        .read(ReadContentRequest {
            digest: digest.to_owned(),
        })
        .await
        .doing(|| format!("reading the image's {what}"))?;
    let mut bytes = Vec::new();
    while let Some(part) = stream
        .message()
        .await
        .map_err(|status| malformed(status.message().to_owned()))?
    {
        bytes.extend_from_slice(&part.data);
        if bytes.len() > MAX_DOCUMENT_BYTES {
            return Err(malformed(format!("it exceeds {MAX_DOCUMENT_BYTES} bytes")));
        }
    }
    serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))
}

/// Adds labels to a blob.
pub(super) async fn label(
    containerd: &Containerd,
    digest: &str,
    labels: HashMap<String, String>,
) -> Result<(), ContainerdError> {
    let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
    containerd
        .content()
        .update(UpdateRequest {
            info: Some(Info {
                digest: digest.to_owned(),
                size: 0,
                labels,
            }),
            update_mask: Some(prost_types::FieldMask { paths }),
        })
        .await
        .doing(|| format!("labelling {digest}"))
        .map(drop)
}

/// The name under which the snapshot of these layers, lowest first, is known.
pub(super) fn chain_id(diff_ids: &[String]) -> String {
    let mut diff_ids = diff_ids.iter();
    let Some(first) = diff_ids.next() else {
        return String::new();
    };
    diff_ids.fold(first.clone(), |below, diff_id| {
        sha256(format!("{below} {diff_id}").as_bytes())
    })
}

/// `sha256:…` of these bytes.
pub(super) fn sha256(bytes: &[u8]) -> String {
    name_digest(&Sha256::digest(bytes))
}

pub(super) fn name_digest(digest: &[u8]) -> String {
    use std::fmt::Write as _;
    digest.iter().fold("sha256:".to_owned(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}

/// Makes sure that every layer is a snapshot, and names the topmost.
pub(super) async fn unpack(
    containerd: &Containerd,
    manifest: &Manifest,
    config: &ImageConfig,
) -> Result<String, ImageError> {
    let diff_ids = config.layers();
    if diff_ids.len() != manifest.layers.len() {
        return Err(ImageError::Malformed {
            what: "configuration",
            digest: manifest.config.digest.clone(),
            cause: format!(
                "it has {} layers and the manifest {}",
                diff_ids.len(),
                manifest.layers.len()
            ),
        });
    }
    let top = chain_id(diff_ids);
    if is_unpacked(containerd, &top).await? {
        return Ok(top);
    }
    for (depth, layer) in manifest.layers.iter().enumerate() {
        let name = chain_id(&diff_ids[..=depth]);
        if !is_unpacked(containerd, &name).await? {
            unpack_layer(containerd, layer, &chain_id(&diff_ids[..depth]), &name).await?;
        }
    }
    Ok(top)
}

async fn is_unpacked(containerd: &Containerd, name: &str) -> Result<bool, ContainerdError> {
    let found = containerd
        .snapshots()
        .stat(StatSnapshotRequest {
            snapshotter: SNAPSHOTTER.into(),
            key: name.to_owned(),
        })
        .await
        .doing(|| "looking for an unpacked layer".into());
    match found {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

async fn unpack_layer(
    containerd: &Containerd,
    layer: &Reference,
    below: &str,
    name: &str,
) -> Result<(), ContainerdError> {
    // The form of the key is containerd's own; its cleaning-up knows it.
    let key = format!("extract-{} {name}", uuid::Uuid::new_v4().simple());
    let mounts = containerd
        .snapshots()
        .prepare(PrepareSnapshotRequest {
            snapshotter: SNAPSHOTTER.into(),
            key: key.clone(),
            parent: below.to_owned(),
            labels: HashMap::new(),
        })
        .await
        .doing(|| "preparing a layer's snapshot".into())?
        .mounts;
    let applied = async {
        containerd
            .diff()
            .apply(ApplyRequest {
                diff: Some(Descriptor {
                    media_type: layer.media_type.clone(),
                    digest: layer.digest.clone(),
                    size: layer.size,
                }),
                mounts,
            })
            .await
            .doing(|| format!("unpacking the layer {}", layer.digest))?;
        let committed = containerd
            .snapshots()
            .commit(CommitSnapshotRequest {
                snapshotter: SNAPSHOTTER.into(),
                name: name.to_owned(),
                key: key.clone(),
                labels: HashMap::new(),
            })
            .await
            .doing(|| "keeping an unpacked layer".into());
        // Somebody else may have unpacked the same layer meanwhile.
        unless(Code::AlreadyExists, committed)
    }
    .await;
    // After a commit there is nothing to remove, and that is fine too.
    let removed = containerd
        .snapshots()
        .remove(RemoveSnapshotRequest {
            snapshotter: SNAPSHOTTER.into(),
            key,
        })
        .await
        .doing(|| "removing a layer's working snapshot".into());
    if let Err(error) = unless(Code::NotFound, removed) {
        tracing::warn!(%error, "a working snapshot is left behind");
    }
    applied
}

/// This machine's architecture, as images name it.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_stand_for_whole_ones() {
        assert!(candidates("python").contains(&"docker.io/library/python:latest".into()));
        assert!(candidates("python").contains(&"localhost/refunction/python:latest".into()));
        assert!(
            candidates("refunction/python").contains(&"localhost/refunction/python:latest".into())
        );
        assert!(candidates("a/b:1").contains(&"docker.io/a/b:1".into()));
        assert_eq!(
            candidates("r.example:5000/a"),
            ["r.example:5000/a", "r.example:5000/a:latest"]
        );
        assert_eq!(candidates("x")[0], "x");
    }

    #[test]
    fn a_chain_is_named_by_its_layers_in_order() {
        assert_eq!(chain_id(&[]), "");
        let layers = ["sha256:aa".to_owned(), "sha256:bb".to_owned()];
        assert_eq!(chain_id(&layers[..1]), "sha256:aa");
        assert_eq!(chain_id(&layers), sha256(b"sha256:aa sha256:bb"));
    }

    #[test]
    fn a_configuration_with_nulls_is_read() {
        let config: ImageConfig = serde_json::from_str(
            r#"{"config":{"Entrypoint":null,"Cmd":["x"],"Env":null,"WorkingDir":""},"rootfs":{"type":"layers","diff_ids":["sha256:a"]}}"#,
        )
        .unwrap();
        assert_eq!(config.command(), ["x"]);
        assert_eq!(config.working_directory(), "/");
        assert!(config.env().is_empty());
        let none: ImageConfig = serde_json::from_str(r#"{"config":null}"#).unwrap();
        assert!(none.command().is_empty());
    }

    #[test]
    fn an_index_is_read_for_this_machine() {
        let index: Index = serde_json::from_str(&format!(
            r#"{{"manifests":[
                {{"mediaType":"m","digest":"other","size":1,"platform":{{"architecture":"s390x","os":"linux"}}}},
                {{"mediaType":"m","digest":"mine","size":1,"platform":{{"architecture":"{}","os":"linux"}}}}]}}"#,
            architecture()
        ))
        .unwrap();
        assert_eq!(index.for_this_machine().unwrap().digest, "mine");
    }
}
