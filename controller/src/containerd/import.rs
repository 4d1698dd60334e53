//! Taking in an image archive: what `docker save`, `podman save` or `buildah push`
//! writes (docker-archive), or an OCI layout in a tar (oci-archive).
//!
//! containerd 1.6 has no call for it; its own clients do it piece by piece, and
//! so does this: blobs, then the image's record, then the root filesystem.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::api::containerd::services::content::v1::{
    AbortRequest, WriteAction, WriteContentRequest,
};
use super::api::containerd::services::images::v1::{CreateImageRequest, Image, UpdateImageRequest};
use super::api::containerd::types::Descriptor;
use super::client::{Containerd, ContainerdError, Doing};
use super::images::{
    ImageConfig, ImageError, Index, Manifest, Reference, SNAPSHOT_REFERENCE, chain_id, label,
    name_digest, sha256, unpack,
};
use super::leases::Lease;
use crate::container::label::IMPORTED;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// What a blob is called while it is written.
pub(crate) const WRITING: &str = "refunction-import-";

/// Bytes that a document in the archive may have.
const MAX_DOCUMENT_BYTES: u64 = 8 * 1024 * 1024;

/// Bytes sent to containerd at a time.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Why an archive was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is not what it should be.
    #[error("this is no image archive that can be taken in: {0}")]
    NotAnArchive(String),
    /// The archive file cannot be read.
    #[error("reading the image archive")]
    Read(#[from] io::Error),
    /// It could not be stored.
    #[error(transparent)]
    Containerd(#[from] ContainerdError),
    /// It could not be unpacked.
    #[error(transparent)]
    Image(#[from] ImageError),
}

fn wrong(cause: impl Into<String>) -> ImportError {
    ImportError::NotAnArchive(cause.into())
}

/// Where in the archive a file's bytes are; archives are tens of megabytes, and
/// nothing of them is unpacked here.
#[derive(Debug, Clone, Copy)]
struct Extent {
    offset: u64,
    size: u64,
}

/// One piece of an image: bytes in the archive, or made here.
#[derive(Debug)]
enum Bytes {
    Archived(Extent),
    Made(Vec<u8>),
}

#[derive(Debug)]
struct Blob {
    digest: String,
    size: u64,
    bytes: Bytes,
    labels: HashMap<String, String>,
}

/// One image found in the archive.
#[derive(Debug)]
struct Found {
    names: Vec<String>,
    target: Descriptor,
    manifest: Manifest,
    config: ImageConfig,
    blobs: Vec<Blob>,
}

/// `manifest.json` of a docker-archive.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Takes in every image of the archive and returns their names.
///
/// # Errors
/// It is no image archive, or it cannot be stored or unpacked.
pub async fn import(containerd: &Containerd, archive: &Path) -> Result<Vec<String>, ImportError> {
    let path = archive.to_owned();
    let found = tokio::task::spawn_blocking(move || read(&path))
        .await
        .map_err(io::Error::other)??;
    let lease = Lease::take(containerd).await?;
    let stored = async {
        let mut names = Vec::new();
        for image in &found {
            store(lease.containerd(), archive, image).await?;
            names.extend(image.names.iter().cloned());
        }
        Ok(names)
    }
    .await;
    lease.release().await;
    stored
}

async fn store(containerd: &Containerd, archive: &Path, image: &Found) -> Result<(), ImportError> {
    for blob in &image.blobs {
        write(containerd, archive, blob).await?;
    }
    unpack(containerd, &image.manifest, &image.config).await?;
    for name in &image.names {
        record(containerd, name, &image.target).await?;
    }
    Ok(())
}

async fn record(
    containerd: &Containerd,
    name: &str,
    target: &Descriptor,
) -> Result<(), ContainerdError> {
    let image = Image {
        name: name.to_owned(),
        // Whoever takes everything of ours away knows it by that.
        labels: HashMap::from([(IMPORTED.to_owned(), "1".to_owned())]),
        target: Some(target.clone()),
        ..Image::default()
    };
    let created = containerd
        .images()
        .create(CreateImageRequest {
            image: Some(image.clone()),
        })
        .await;
    match created {
        Err(status) if status.code() == Code::AlreadyExists => containerd
            .images()
            .update(UpdateImageRequest {
                image: Some(image),
                update_mask: None,
            })
            .await
            .doing(|| format!("renewing the image {name}"))
            .map(drop),
        other => other
            .doing(|| format!("recording the image {name}"))
            .map(drop),
    }
}

/// Writes one blob; one that is there already is fine.
async fn write(containerd: &Containerd, archive: &Path, blob: &Blob) -> Result<(), ImportError> {
    let reference = format!("{WRITING}{}", blob.digest);
    let doing = || format!("storing {}", blob.digest);
    // Leftovers of an interrupted import would be continued at their offset.
    let _ = containerd
        .content()
        .abort(AbortRequest {
            r#ref: reference.clone(),
        })
        .await;
    let (sender, receiver) = mpsc::channel(4);
    let mut reader: Box<dyn Read + Send> = match &blob.bytes {
        Bytes::Made(bytes) => Box::new(io::Cursor::new(bytes.clone())),
        Bytes::Archived(extent) => {
            let mut file = File::open(archive)?;
            file.seek(SeekFrom::Start(extent.offset))?;
            Box::new(file.take(extent.size))
        }
    };
    let total = i64::try_from(blob.size).map_err(|_| wrong("a layer exceeds 8 EiB"))?;
    let (expected, labels) = (blob.digest.clone(), blob.labels.clone());
    let producer = tokio::task::spawn_blocking(move || -> io::Result<()> {
        let mut offset = 0;
        loop {
            let mut data = Vec::new();
            (&mut reader)
                .take(CHUNK_BYTES as u64)
                .read_to_end(&mut data)?;
            let done = data.is_empty();
            let length = i64::try_from(data.len()).unwrap_or(i64::MAX);
            let message = WriteContentRequest {
                action: if done {
                    WriteAction::Commit
                } else {
                    WriteAction::Write
                }
                .into(),
                r#ref: reference.clone(),
                total,
                expected: expected.clone(),
                offset,
                data,
                labels: if done { labels.clone() } else { HashMap::new() },
            };
            offset += length;
            // A refusal ends the other side; its status says why.
            if sender.blocking_send(message).is_err() || done {
                return Ok(());
            }
        }
    });
    let result = async {
        let mut answers = containerd
            .content()
            .write(ReceiverStream::new(receiver))
            .await?
            .into_inner();
        while answers.message().await?.is_some() {}
        Ok::<_, tonic::Status>(())
    }
    .await;
    producer.await.map_err(io::Error::other)??;
    match result {
        // It may lack the references of the one that is imported.
        Err(status) if status.code() == Code::AlreadyExists => {
            if !blob.labels.is_empty() {
                label(containerd, &blob.digest, blob.labels.clone()).await?;
            }
            Ok(())
        }
        other => Ok(other.map(tonic::Response::new).doing(doing)?),
    }
}

/// Reads the archive's table of contents, and its images' documents.
fn read(path: &Path) -> Result<Vec<Found>, ImportError> {
    let mut magic = [0; 4];
    let mut file = File::open(path)?;
    let read = file.read(&mut magic)?;
    if magic[..read].starts_with(&[0x1f, 0x8b]) || magic == [0x28, 0xb5, 0x2f, 0xfd] {
        return Err(wrong(
            "the archive itself is compressed; decompress it first",
        ));
    }
    file.seek(SeekFrom::Start(0))?;
    let mut files = HashMap::new();
    let mut links = HashMap::new();
    let mut archive = tar::Archive::new(file);
    let entries = archive.entries_with_seek()?;
    for entry in entries {
        // The cause would quote whatever is in the file's place of a header.
        let entry = entry.map_err(|_| wrong("it cannot be read as a tar file"))?;
        let name = plain(&entry.path()?);
        if entry.header().entry_type().is_file() {
            let extent = Extent {
                offset: entry.raw_file_position(),
                size: entry.size(),
            };
            files.insert(name, extent);
        } else if let Some(to) = entry.link_name()? {
            // `docker save` writes a layer that two images share once. A symbolic
            // link counts from where it is, a hard one from the archive's root.
            let from = if entry.header().entry_type().is_symlink() {
                name.parent().unwrap_or(Path::new(""))
            } else {
                Path::new("")
            };
            links.insert(name.clone(), plain(&from.join(to)));
        }
    }
    let contents = Contents {
        path: path.to_owned(),
        files,
        links,
    };
    if contents.extent("index.json").is_some() && contents.extent("oci-layout").is_some() {
        let found = oci_archive(&contents)?;
        // Docker writes both forms; where the first has no names the second does.
        if !found.is_empty() || contents.extent("manifest.json").is_none() {
            return named(found, "index.json names no image");
        }
    }
    if contents.extent("manifest.json").is_some() {
        return named(docker_archive(&contents)?, "manifest.json names no image");
    }
    Err(wrong("it has neither manifest.json nor index.json"))
}

fn named(found: Vec<Found>, otherwise: &str) -> Result<Vec<Found>, ImportError> {
    if found.is_empty() {
        return Err(wrong(format!("{otherwise}; save it with a name and a tag")));
    }
    Ok(found)
}

/// Without `.` and with `..` resolved, so that different writings are one name.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::Normal(name) => plain.push(name),
            std::path::Component::ParentDir => {
                plain.pop();
            }
            _ => {}
        }
    }
    plain
}

#[derive(Debug)]
struct Contents {
    path: PathBuf,
    files: HashMap<PathBuf, Extent>,
    links: HashMap<PathBuf, PathBuf>,
}

impl Contents {
    fn extent(&self, name: &str) -> Option<Extent> {
        let name = plain(Path::new(name));
        let target = self.links.get(&name).unwrap_or(&name);
        self.files.get(target).copied()
    }

    fn need(&self, name: &str) -> Result<Extent, ImportError> {
        self.extent(name)
            .ok_or_else(|| wrong(format!("it refers to {name}, which it does not have")))
    }

    fn reader(&self, extent: Extent) -> io::Result<io::Take<File>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(extent.offset))?;
        Ok(file.take(extent.size))
    }

    fn document(&self, name: &str) -> Result<Vec<u8>, ImportError> {
        let extent = self.need(name)?;
        if extent.size > MAX_DOCUMENT_BYTES {
            return Err(wrong(format!("{name} exceeds {MAX_DOCUMENT_BYTES} bytes")));
        }
        let mut bytes = Vec::new();
        self.reader(extent)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

fn parse<T: for<'de> Deserialize<'de>>(name: &str, bytes: &[u8]) -> Result<T, ImportError> {
    serde_json::from_slice(bytes).map_err(|error| wrong(format!("{name}: {error}")))
}

fn docker_archive(contents: &Contents) -> Result<Vec<Found>, ImportError> {
    let saved: Vec<Saved> = parse("manifest.json", &contents.document("manifest.json")?)?;
    let mut found = Vec::new();
    for image in saved {
        let names: Vec<_> = image
            .repo_tags
            .unwrap_or_default()
            .iter()
            .map(|tag| whole_name(tag))
            .collect();
        if names.is_empty() {
            continue;
        }
        let config_bytes = contents.document(&image.config)?;
        let config: ImageConfig = parse(&image.config, &config_bytes)?;
        let mut blobs = Vec::new();
        let mut layers = Vec::new();
        for layer in &image.layers {
            let extent = contents.need(layer)?;
            let (digest, media_type) = digest_layer(contents.reader(extent)?)?;
            layers.push(reference(media_type, &digest, extent.size)?);
            blobs.push(Blob {
                digest,
                size: extent.size,
                bytes: Bytes::Archived(extent),
                labels: HashMap::new(),
            });
        }
        let config_digest = sha256(&config_bytes);
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MANIFEST.into()),
            config: reference(CONFIG, &config_digest, config_bytes.len() as u64)?,
            layers,
        };
        blobs.push(config_blob(
            config_digest,
            Bytes::Made(config_bytes.clone()),
            config_bytes.len() as u64,
            &config,
        ));
        let bytes = serde_json::to_vec(&manifest).map_err(|error| wrong(error.to_string()))?;
        let digest = sha256(&bytes);
        let size = bytes.len() as u64;
        blobs.push(manifest_blob(
            digest.clone(),
            Bytes::Made(bytes),
            size,
            &manifest,
        ));
        found.push(Found {
            names,
            target: descriptor(MANIFEST, &digest, size)?,
            manifest,
            config,
            blobs,
        });
    }
    Ok(found)
}

fn oci_archive(contents: &Contents) -> Result<Vec<Found>, ImportError> {
    let index: Index = parse("index.json", &contents.document("index.json")?)?;
    let mut found = Vec::new();
    for entry in &index.manifests {
        let Some(name) = entry
            .annotations
            .get("io.containerd.image.name")
            .or_else(|| entry.annotations.get("org.opencontainers.image.ref.name"))
        else {
            continue;
        };
        let mut entry = entry.clone();
        if entry.media_type.contains("index") || entry.media_type.contains("manifest.list") {
            let path = blob_path(&entry.digest)?;
            let nested: Index = parse(&path, &contents.document(&path)?)?;
            entry = nested
                .for_this_machine()
                .cloned()
                .ok_or_else(|| wrong(format!("{name} is not for this machine's architecture")))?;
        }
        let path = blob_path(&entry.digest)?;
        let manifest: Manifest = parse(&path, &contents.document(&path)?)?;
        let config_path = blob_path(&manifest.config.digest)?;
        let config: ImageConfig = parse(&config_path, &contents.document(&config_path)?)?;
        let mut blobs = Vec::new();
        for layer in &manifest.layers {
            let extent = contents.need(&blob_path(&layer.digest)?)?;
            blobs.push(Blob {
                digest: layer.digest.clone(),
                size: extent.size,
                bytes: Bytes::Archived(extent),
                labels: HashMap::new(),
            });
        }
        let extent = contents.need(&config_path)?;
        blobs.push(config_blob(
            manifest.config.digest.clone(),
            Bytes::Archived(extent),
            extent.size,
            &config,
        ));
        let extent = contents.need(&path)?;
        blobs.push(manifest_blob(
            entry.digest.clone(),
            Bytes::Archived(extent),
            extent.size,
            &manifest,
        ));
        found.push(Found {
            names: vec![whole_name(name)],
            target: descriptor(&entry.media_type, &entry.digest, extent.size)?,
            manifest,
            config,
            blobs,
        });
    }
    Ok(found)
}

/// Docker's way: no registry means docker.io, one part means its library.
fn whole_name(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    let tagged = if last.contains([':', '@']) {
        name.to_owned()
    } else {
        format!("{name}:latest")
    };
    match name.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => tagged,
        Some(_) => format!("docker.io/{tagged}"),
        None => format!("docker.io/library/{tagged}"),
    }
}

fn blob_path(digest: &str) -> Result<String, ImportError> {
    let (algorithm, value) = digest
        .split_once(':')
        .ok_or_else(|| wrong(format!("{digest:?} is no digest")))?;
    Ok(format!("blobs/{algorithm}/{value}"))
}

/// References keep what they point at from being collected.
fn config_blob(digest: String, bytes: Bytes, size: u64, config: &ImageConfig) -> Blob {
    Blob {
        digest,
        size,
        bytes,
        labels: HashMap::from([(SNAPSHOT_REFERENCE.to_owned(), chain_id(config.layers()))]),
    }
}

fn manifest_blob(digest: String, bytes: Bytes, size: u64, manifest: &Manifest) -> Blob {
    let mut labels = HashMap::from([(
        "containerd.io/gc.ref.content.config".to_owned(),
        manifest.config.digest.clone(),
    )]);
    for (depth, layer) in manifest.layers.iter().enumerate() {
        labels.insert(
            format!("containerd.io/gc.ref.content.l.{depth}"),
            layer.digest.clone(),
        );
    }
    Blob {
        digest,
        size,
        bytes,
        labels,
    }
}

fn reference(media_type: &str, digest: &str, size: u64) -> Result<Reference, ImportError> {
    Ok(Reference {
        media_type: media_type.into(),
        digest: digest.into(),
        size: i64::try_from(size).map_err(|_| wrong("a part exceeds 8 EiB"))?,
        platform: None,
        annotations: HashMap::new(),
    })
}

fn descriptor(media_type: &str, digest: &str, size: u64) -> Result<Descriptor, ImportError> {
    Ok(Descriptor {
        media_type: media_type.into(),
        digest: digest.into(),
        size: i64::try_from(size).map_err(|_| wrong("a part exceeds 8 EiB"))?,
    })
}

/// A layer's digest, and what it is by its first bytes: a docker-archive does
/// not say whether its layers are compressed.
fn digest_layer(mut layer: impl Read) -> io::Result<(String, &'static str)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut media_type = None;
    loop {
        let read = layer.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        let bytes = &buffer[..read];
        media_type.get_or_insert(if bytes.starts_with(&[0x1f, 0x8b]) {
            LAYER_GZIP
        } else if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            LAYER_ZSTD
        } else {
            LAYER
        });
        hasher.update(bytes);
    }
    Ok((name_digest(&hasher.finalize()), media_type.unwrap_or(LAYER)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut builder = tar::Builder::new(file.reopen().unwrap());
        for (name, bytes) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap();
        file
    }

    #[test]
    fn a_docker_archive_is_read() {
        let config = br#"{"config":{"Entrypoint":["/s"]},"rootfs":{"diff_ids":["sha256:d"]}}"#;
        let file = archive(&[
            ("layer.tar", b"layer"),
            ("config.json", config),
            (
                "manifest.json",
                br#"[{"Config":"config.json","RepoTags":["refunction/python:1"],"Layers":["./layer.tar"]}]"#,
            ),
        ]);
        let found = read(file.path()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].names, ["docker.io/refunction/python:1"]);
        assert_eq!(found[0].manifest.layers[0].digest, sha256(b"layer"));
        assert_eq!(found[0].manifest.config.digest, sha256(config));
        assert_eq!(found[0].blobs.len(), 3);
        let label = &found[0].blobs[1].labels["containerd.io/gc.ref.snapshot.overlayfs"];
        assert_eq!(label, "sha256:d");
    }

    #[test]
    fn what_is_no_image_is_refused_with_the_reason() {
        type Files<'a> = &'a [(&'a str, &'a [u8])];
        let cases: [(Files<'_>, &str); 3] = [
            (
                &[("readme", b"hello")],
                "neither manifest.json nor index.json",
            ),
            (
                &[(
                    "manifest.json",
                    br#"[{"Config":"c","RepoTags":null,"Layers":[]}]"#,
                )],
                "names no image",
            ),
            (
                &[(
                    "manifest.json",
                    br#"[{"Config":"c","RepoTags":["a:1"],"Layers":[]}]"#,
                )],
                "refers to c",
            ),
        ];
        for (files, reason) in cases {
            let error = read(archive(files).path()).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let gzip = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(gzip.path(), [0x1f, 0x8b, 8, 0]).unwrap();
        assert!(
            read(gzip.path())
                .unwrap_err()
                .to_string()
                .contains("compressed")
        );
    }

    #[test]
    fn names_are_made_whole() {
        assert_eq!(whole_name("python"), "docker.io/library/python:latest");
        assert_eq!(
            whole_name("refunction/python:3"),
            "docker.io/refunction/python:3"
        );
        assert_eq!(whole_name("localhost/a/b"), "localhost/a/b:latest");
        assert_eq!(whole_name("r.example:5000/a:1"), "r.example:5000/a:1");
    }
}
