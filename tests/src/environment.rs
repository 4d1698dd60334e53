//! What `cargo xtask test` tells the tests, and where they may keep what is made once.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the tests may keep what takes long to make: compiled functions, installed libraries.
/// The path is the one that the kernel would give for it, as functions that ask for their
/// working directory get it.
///
/// # Panics
/// It cannot be made.
#[must_use]
pub fn kept() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    let kept = target.join("tmp");
    fs::create_dir_all(&kept).expect("a directory to keep things in");
    kept.canonicalize().expect("its own path")
}

/// A program or archive that is to be tested.
///
/// # Panics
/// The variable is not set, or names no file.
#[must_use]
pub fn file(variable: &str) -> PathBuf {
    let Some(value) = std::env::var_os(variable).filter(|value| !value.is_empty()) else {
        panic!("{variable} is not set; run these tests with `cargo xtask test`, which sets it");
    };
    let path = PathBuf::from(value);
    assert!(
        path.is_file(),
        "{variable} names {}, which is no file; `cargo xtask test` builds it",
        path.display()
    );
    path
}

/// The archive of a runtime's image: the variable names Python's, and all stand beside
/// each other.
///
/// # Panics
/// It was not built.
#[must_use]
pub fn image(runtime: &str) -> PathBuf {
    let path = file("REFUNCTION_IMAGE_TAR").with_file_name(format!("{runtime}.tar"));
    assert!(path.is_file(), "{} was not built", path.display());
    path
}

/// The supervisor's binary.
#[must_use]
pub fn supervisor() -> PathBuf {
    file("REFUNCTION_SUPERVISOR")
}

/// Fails unless this runs as root: workers get users of their own.
///
/// # Panics
/// It does not run as root.
pub fn require_root() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let is_root = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"));
    assert!(
        is_root,
        "these tests must run as root: they give workers users of their own"
    );
}
