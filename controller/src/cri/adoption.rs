//! Knowing a function container that kubelet made: by containerd's own record of it,
//! which says what is mounted where. There is no second book to keep, and none that
//! could be wrong after either side was killed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::container::spec::CONTROL_DIRECTORY;
use crate::container::{Identity, Pod};
use crate::containerd::api::containerd::services::containers::v1::Container as Record;

/// What containerd's CRI notes on a container's specification.
mod annotation {
    pub(super) const SANDBOX: &str = "io.kubernetes.cri.sandbox-id";
    pub(super) const POD: &str = "io.kubernetes.cri.sandbox-name";
    pub(super) const NAMESPACE: &str = "io.kubernetes.cri.sandbox-namespace";
    pub(super) const CONTAINER: &str = "io.kubernetes.cri.container-name";
    pub(super) const IMAGE: &str = "io.kubernetes.cri.image-name";
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    annotations: HashMap<String, String>,
    mounts: Vec<Mount>,
    linux: Linux,
}

#[derive(Debug, Deserialize)]
struct Mount {
    destination: String,
    #[serde(default)]
    source: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Linux {
    resources: Resources,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Resources {
    memory: Option<Limit>,
    pids: Option<Limit>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Limit {
    limit: Option<i64>,
}

/// What a record says of a function container.
#[derive(Debug)]
pub(super) struct Adoption {
    pub(super) sandbox: String,
    pub(super) identity: Identity,
}

impl Adoption {
    /// None of a container that has no control directory below `base`.
    pub(super) fn read(record: &Record, base: &Path) -> Option<Self> {
        let spec: Spec = serde_json::from_slice(&record.spec.as_ref()?.value).ok()?;
        let control = spec
            .mounts
            .iter()
            .find(|mount| mount.destination == CONTROL_DIRECTORY)?;
        let directory = control.source.parent()?;
        if directory.parent()? != base {
            return None;
        }
        let said = |name: &str| spec.annotations.get(name).cloned().unwrap_or_default();
        // Not limited is -1, or left out.
        let limit = |limit: Option<Limit>| {
            limit
                .and_then(|limit| u64::try_from(limit.limit?).ok())
                .unwrap_or(0)
        };
        Some(Self {
            sandbox: said(annotation::SANDBOX),
            identity: Identity {
                id: record.id.clone(),
                image: spec
                    .annotations
                    .get(annotation::IMAGE)
                    .unwrap_or(&record.image)
                    .clone(),
                memory_bytes: limit(spec.linux.resources.memory),
                pids: u32::try_from(limit(spec.linux.resources.pids)).unwrap_or(0),
                created_unix_ms: record.created_unix_ms(),
                directory: directory.to_owned(),
                // Known once it runs.
                cgroup: String::new(),
                pool: None,
                pod: Some(Pod {
                    namespace: said(annotation::NAMESPACE),
                    name: said(annotation::POD),
                    container: said(annotation::CONTAINER),
                }),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(spec: &serde_json::Value) -> Record {
        Record {
            id: "c0ffee".into(),
            image: "sha256:1".into(),
            spec: Some(prost_types::Any {
                type_url: String::new(),
                value: spec.to_string().into_bytes(),
            }),
            ..Record::default()
        }
    }

    #[test]
    fn a_record_tells_of_what_is_ours_and_whose_it_is() {
        let spec = json!({
            "ociVersion": "1.0.2",
            "annotations": {
                "io.kubernetes.cri.sandbox-id": "5a",
                "io.kubernetes.cri.sandbox-name": "web",
                "io.kubernetes.cri.sandbox-namespace": "default",
                "io.kubernetes.cri.container-name": "python",
                "io.kubernetes.cri.image-name": "docker.io/refunction/python:1",
            },
            "mounts": [
                {"destination": "/proc", "type": "proc"},
                {"destination": "/run/refunction", "source": "/state/cri/x1/control"},
            ],
            "linux": {"resources": {"memory": {"limit": 268_435_456}, "pids": {"limit": -1}}},
        });
        let adoption = Adoption::read(&record(&spec), Path::new("/state/cri")).unwrap();
        assert_eq!(adoption.sandbox, "5a");
        let identity = adoption.identity;
        assert_eq!(identity.directory, Path::new("/state/cri/x1"));
        assert_eq!(identity.memory_bytes, 256 << 20);
        assert_eq!(identity.pids, 0);
        assert_eq!(identity.image, "docker.io/refunction/python:1");
        assert_eq!(identity.pod.unwrap().to_string(), "default/web/python");
    }

    #[test]
    fn whoever_mounts_something_else_there_is_not_ours() {
        for source in ["/elsewhere/x1/control", "/state/cri", "/state/cri/x1", "/"] {
            let spec = json!({
                "mounts": [{"destination": "/run/refunction", "source": source}],
            });
            let read = Adoption::read(&record(&spec), Path::new("/state/cri"));
            assert!(read.is_none(), "{source}");
        }
        assert!(Adoption::read(&record(&json!({})), Path::new("/state/cri")).is_none());
        assert!(Adoption::read(&Record::default(), Path::new("/state/cri")).is_none());
    }
}
