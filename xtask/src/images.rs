//! Base images, built from `images/*/Dockerfile` without a daemon or a registry.
//!
//! The Dockerfiles are for `docker build` and know nothing of this: here their
//! base is made from Debian's packages, and the compiler is this host's.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::shell;
use crate::terminal::step;
use crate::workspace::Workspace;

/// The base of the final and of the build stage, as the Dockerfiles name it.
const BASE: &str = "docker.io/library/debian:bookworm-slim";
const RELEASE: &str = "bookworm";

/// What a supervisor is made of; the Dockerfile's directory is added to it.
const INPUTS: &[&str] = &[
    ".cargo",
    ".dockerignore",
    "Cargo.lock",
    "Cargo.toml",
    "language-adapters",
    "protocol",
    "snapshot",
    "supervisor",
    "xtask/src/images.rs",
];

/// Builds those of the named images that changed; all of them if none is named.
/// Gives their archives, in the order of the names.
pub(crate) fn build(workspace: &Workspace, names: &[String]) -> Result<Vec<PathBuf>> {
    let known = known(workspace)?;
    if let Some(name) = names.iter().find(|name| !known.contains(name)) {
        bail!("there is no image {name:?}; there is: {}", known.join(", "));
    }
    let names = if names.is_empty() { &known } else { names };
    names
        .iter()
        .map(|name| Image { workspace, name }.build())
        .collect()
}

fn known(workspace: &Workspace) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(workspace.root().join("images"))? {
        let entry = entry?;
        if entry.path().join("Dockerfile").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

struct Image<'a> {
    workspace: &'a Workspace,
    name: &'a str,
}

impl Image<'_> {
    fn build(&self) -> Result<PathBuf> {
        let directory = self.workspace.images();
        let archive = directory.join(format!("{}.tar", self.name));
        let stamp = directory.join(format!("{}.inputs", self.name));
        let inputs = self.inputs()?;
        let unchanged = fs::read_to_string(&stamp).is_ok_and(|built| built == inputs);
        if archive.is_file() && unchanged {
            eprintln!("==> image {}: unchanged", self.name);
            return Ok(archive);
        }
        fs::create_dir_all(&directory)?;
        let storage = Storage::open(&directory)?;
        if !storage.has(BASE) {
            step(&format!("base image {BASE}"), || {
                bootstrap(&storage, &directory)
            })?;
        }
        step(&format!("image {}", self.name), || {
            self.build_from(&storage)?;
            self.save(&storage, &archive)
        })?;
        // Last: a build that was interrupted must not count as done.
        fs::write(&stamp, inputs)?;
        Ok(archive)
    }

    fn tag(&self) -> String {
        format!("docker.io/refunction/{}:latest", self.name)
    }

    fn build_from(&self, storage: &Storage) -> Result<()> {
        let root = self.workspace.root();
        let toolchain = toolchain(root)?;
        let registry = fetch_crates(root)?;
        // One for all: most of what a supervisor is made of is the same in each.
        let cache = self.workspace.images().join("cache");
        fs::create_dir_all(&cache)?;
        shell::run(
            storage
                .buildah("build")
                .args(["--pull-never", "--layers", "--isolation=chroot"])
                .args(["--network=host", "--quiet"])
                .arg(format!("--build-arg=BUILD_IMAGE={BASE}"))
                .arg("--build-arg=CARGO_NET_OFFLINE=true")
                // Mounted over directories that the base has, and has empty: a
                // place that had to be made would stay in the image.
                .arg(volume(&toolchain, "/opt:ro"))
                .arg(volume(&cache, "/mnt"))
                .arg(volume(&registry, "/mnt/cargo/registry:ro"))
                .arg("--file")
                .arg(root.join("images").join(self.name).join("Dockerfile"))
                .arg("--tag")
                .arg(self.tag())
                .arg(root)
                // The id of the image, which nobody needs.
                .stdout(Stdio::null()),
        )
    }

    fn save(&self, storage: &Storage, archive: &Path) -> Result<()> {
        let unfinished = archive.with_extension("tar.part");
        remove_if_there(&unfinished)?;
        shell::quiet(
            storage
                .buildah("push")
                .arg("--quiet")
                .arg(self.tag())
                .arg(format!(
                    "docker-archive:{}:{}",
                    unfinished.display(),
                    self.tag()
                )),
        )?;
        fs::rename(&unfinished, archive)?;
        Ok(())
    }

    /// A name for everything that the image is made of, the compiler included.
    fn inputs(&self) -> Result<String> {
        let root = self.workspace.root();
        let listed = shell::output(
            Command::new("git")
                .current_dir(root)
                .args(["ls-files", "--cached", "--others", "--exclude-standard"])
                .arg("--")
                .args(INPUTS)
                .arg(format!("images/{}", self.name)),
        )?;
        let mut files: Vec<&str> = listed
            .lines()
            // One that was deleted is listed until the deletion is committed.
            .filter(|file| root.join(file).is_file())
            .collect();
        files.sort_unstable();
        files.dedup();
        let hashes = hash_files(root, &files)?;
        let compiler = shell::output(Command::new("rustc").arg("--version").current_dir(root))?;
        let mut inputs = compiler;
        for (file, hash) in files.iter().zip(hashes.lines()) {
            inputs.push_str(&format!("{hash} {file}\n"));
        }
        Ok(inputs)
    }
}

fn hash_files(root: &Path, files: &[&str]) -> Result<String> {
    let mut child = Command::new("git")
        .current_dir(root)
        .args(["hash-object", "--stdin-paths"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting git")?;
    let mut stdin = child.stdin.take().context("git has no input")?;
    let list = files.join("\n") + "\n";
    let writer = std::thread::spawn(move || stdin.write_all(list.as_bytes()));
    let output = child.wait_with_output()?;
    let written = writer.join().expect("the writer does not panic");
    if !output.status.success() {
        bail!("git could not hash the sources: {}", output.status);
    }
    written.context("giving git the list of sources")?;
    Ok(String::from_utf8(output.stdout)?)
}

/// Makes the base image out of Debian's packages, as slim as the one it stands for.
fn bootstrap(storage: &Storage, directory: &Path) -> Result<()> {
    let tar = directory.join("base.tar");
    let excludes = ["man", "info", "doc", "locale"]
        .map(|part| format!("--dpkgopt=path-exclude=/usr/share/{part}/*"));
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--quiet", "--variant=minbase", "--mode=root"])
        .arg("--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr")
        // Without it the hook above needs perl.
        .arg("--include=usr-is-merged")
        .args(excludes)
        .arg("--dpkgopt=path-include=/usr/share/doc/*/copyright")
        .arg("--aptopt=Acquire::Languages \"none\"")
        .arg("--aptopt=Acquire::GzipIndexes \"true\"")
        .arg("--aptopt=APT::AutoRemove::SuggestsImportant \"false\"")
        .arg(
            "--aptopt=DPkg::Post-Invoke { \"rm -f /var/cache/apt/archives/*.deb \
             /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true\"; }",
        )
        .arg(
            "--customize-hook=rm -f \"$1\"/etc/hostname \"$1\"/etc/resolv.conf \
             \"$1\"/var/cache/apt/*.bin",
        )
        .arg(RELEASE)
        .arg(&tar)
        .args(mirrors()?);
    shell::run(&mut command)?;
    storage.import(&tar, BASE)?;
    fs::remove_file(&tar)?;
    Ok(())
}

/// The host's own sources of this Debian release, as lines for sources.list; none
/// if it has none, and then mmdebstrap uses Debian's own mirror.
fn mirrors() -> Result<Vec<String>> {
    if shell::which("apt-get").is_none() {
        return Ok(Vec::new());
    }
    let listed = shell::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)",
        "Created-By: Packages",
    ]))?;
    let mut mirrors: Vec<String> = listed
        .lines()
        .filter_map(|line| line.strip_prefix("Debian "))
        .filter(|line| !line.starts_with("cdrom:"))
        .filter(|line| {
            line.split(' ')
                .nth(1)
                .is_some_and(|release| release.split('-').next() == Some(RELEASE))
        })
        .map(|line| format!("deb {line}"))
        .collect();
    mirrors.dedup();
    Ok(mirrors)
}

/// The host's compiler and cargo, as a directory with `bin` and `lib`.
fn toolchain(root: &Path) -> Result<PathBuf> {
    let printed = shell::output(
        Command::new("rustc")
            .args(["--print", "sysroot"])
            .current_dir(root),
    )?;
    let toolchain = PathBuf::from(printed.trim());
    if !toolchain.join("bin/cargo").is_file() {
        bail!(
            "{} has no cargo in it: a toolchain that rustup installed is needed",
            toolchain.display()
        );
    }
    Ok(toolchain)
}

/// Fetches the crates that the lock file names; the build itself has no network.
fn fetch_crates(root: &Path) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    shell::run(
        Command::new(cargo)
            .args(["fetch", "--quiet", "--locked"])
            .current_dir(root),
    )?;
    let home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cargo"),
    };
    Ok(home.join("registry"))
}

fn volume(host: &Path, container: &str) -> String {
    format!("--volume={}:{container}", host.display())
}

fn remove_if_there(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// Buildah's storage, of its own so that it is never mixed up with the host's.
struct Storage {
    root: PathBuf,
    run: PathBuf,
}

impl Storage {
    fn open(directory: &Path) -> Result<Self> {
        let storage = Self {
            root: directory.join("storage"),
            run: directory.join("storage-run"),
        };
        storage.remove_working_containers()?;
        Ok(storage)
    }

    fn buildah(&self, verb: &str) -> Command {
        let mut command = Command::new("buildah");
        command
            .arg("--root")
            .arg(&self.root)
            .arg("--runroot")
            .arg(&self.run)
            .args(["--storage-driver=overlay", verb]);
        command
    }

    fn has(&self, image: &str) -> bool {
        shell::quiet(self.buildah("inspect").args(["--type=image", image])).is_ok()
    }

    fn import(&self, tar: &Path, tag: &str) -> Result<()> {
        let container = shell::output(self.buildah("from").arg("scratch"))?;
        let container = container.trim();
        shell::quiet(
            self.buildah("add")
                .arg("--quiet")
                .arg(container)
                .arg(tar)
                .arg("/"),
        )?;
        shell::quiet(self.buildah("config").args(["--cmd=bash", container]))?;
        shell::quiet(
            self.buildah("commit")
                .args(["--quiet", "--rm", container, tag]),
        )?;
        Ok(())
    }

    /// A build that failed leaves its container, mounted.
    fn remove_working_containers(&self) -> Result<()> {
        if self.root.exists() {
            shell::cleanup(self.buildah("rm").arg("--all"))?;
        }
        Ok(())
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if let Err(error) = self.remove_working_containers() {
            eprintln!("xtask: {error:#}");
        }
    }
}

/// Removes images and storage.
pub(crate) fn clean(workspace: &Workspace) -> Result<()> {
    let directory = workspace.images();
    if !directory.exists() {
        return Ok(());
    }
    if shell::which("buildah").is_some() {
        drop(Storage::open(&directory)?);
    }
    fs::remove_dir_all(&directory).with_context(|| format!("removing {}", directory.display()))
}
