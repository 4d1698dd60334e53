//! The images, as the files that a container is made of.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use refunction_tests::environment;
use serde_json::Value;

/// The files of a runtime's image, unpacked once for each version of it.
pub fn of(runtime: &str) -> PathBuf {
    static ROOTS: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut roots = ROOTS.lock().unwrap_or_else(PoisonError::into_inner);
    let root = roots.entry(runtime.into());
    root.or_insert_with(|| unpacked(runtime)).clone()
}

fn unpacked(runtime: &str) -> PathBuf {
    let archive = environment::image(runtime);
    let status = fs::metadata(&archive).expect("an archive");
    let kept = archive.with_file_name("unpacked").join(runtime);
    let name = format!("{}-{}", status.size(), status.mtime());
    let root = kept.join(&name);
    if !root.is_dir() {
        // Of versions that are no more.
        let _ = fs::remove_dir_all(&kept);
        let unfinished = kept.join(format!("{name}-{}", std::process::id()));
        unpack(&archive, &unfinished);
        fs::rename(unfinished.join("root"), &root).expect("kept");
        fs::remove_dir_all(unfinished).expect("removed");
    }
    root
}

fn unpack(archive: &Path, to: &Path) {
    let (layers, root) = (to.join("layers"), to.join("root"));
    for directory in [&layers, &root] {
        fs::create_dir_all(directory).expect("a directory");
    }
    let tar = |archive: &Path, to: &Path| {
        let mut command = Command::new("tar");
        command
            .arg("--extract")
            .arg("--file")
            .arg(archive)
            .arg("--directory")
            .arg(to);
        assert!(command.status().expect("tar").success(), "{command:?}");
    };
    tar(archive, &layers);
    let manifest = fs::read(layers.join("manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    for layer in manifest[0]["Layers"].as_array().expect("layers") {
        tar(&layers.join(layer.as_str().expect("a name")), &root);
        remove_whiteouts(&root);
    }
}

/// A layer says by a name what it takes away from those below.
fn remove_whiteouts(directory: &Path) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let (name, kind) = (entry.file_name(), entry.file_type().expect("its kind"));
        if let Some(gone) = name.to_str().and_then(|name| name.strip_prefix(".wh.")) {
            let gone = directory.join(gone);
            let _ = fs::remove_dir_all(&gone).or_else(|_| fs::remove_file(&gone));
            fs::remove_file(entry.path()).expect("removed");
        } else if kind.is_dir() && entry.path().is_dir() {
            // One that was taken away may still be listed.
            remove_whiteouts(&entry.path());
        }
    }
}
