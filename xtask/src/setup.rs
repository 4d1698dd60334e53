//! What the host must have, and its installation where that is Debian's apt.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::shell;

/// One thing needed, how to tell that it is there, and who brings it on Debian.
#[derive(Debug)]
pub(crate) struct Need {
    package: &'static str,
    found_by: Found,
    reason: &'static str,
}

#[derive(Debug)]
enum Found {
    /// A program in PATH or in a system directory.
    Program(&'static str),
    /// A file at a fixed place.
    File(&'static str),
}

impl Need {
    fn describe(&self) -> String {
        format!("{} ({})", self.package, self.reason)
    }

    fn is_met(&self) -> bool {
        match self.found_by {
            Found::Program(program) => shell::which(program).is_some(),
            Found::File(path) => Path::new(path).exists(),
        }
    }
}

/// What images are built with.
pub(crate) const IMAGES: &[Need] = &[
    Need {
        package: "git",
        found_by: Found::Program("git"),
        reason: "tells which files an image is made of",
    },
    Need {
        package: "buildah",
        found_by: Found::Program("buildah"),
        reason: "builds images from Dockerfiles, without a daemon",
    },
    Need {
        package: "mmdebstrap",
        found_by: Found::Program("mmdebstrap"),
        reason: "makes the Debian base image where no registry is asked",
    },
    Need {
        package: "debian-archive-keyring",
        found_by: Found::File("/usr/share/keyrings/debian-archive-keyring.gpg"),
        reason: "the keys that Debian's packages are checked with",
    },
];

/// What building and running on this host takes, beside [`IMAGES`].
pub(crate) const HOST: &[Need] = &[
    Need {
        package: "build-essential",
        found_by: Found::Program("cc"),
        reason: "links Rust programs",
    },
    Need {
        package: "python3-dev",
        // By its full path: a version manager's Python is not the one we link to.
        found_by: Found::File("/usr/bin/python3-config"),
        reason: "the CPython that the Python adapter embeds",
    },
    Need {
        package: "containerd",
        found_by: Found::Program("containerd"),
        reason: "keeps images and containers",
    },
    Need {
        package: "runc",
        found_by: Found::Program("runc"),
        reason: "starts containers for containerd",
    },
    Need {
        package: "containernetworking-plugins",
        found_by: Found::File("/usr/lib/cni/bridge"),
        reason: "the network that the tests give to containers",
    },
    Need {
        package: "iptables",
        found_by: Found::Program("iptables"),
        reason: "what those plugins call",
    },
    Need {
        package: "iproute2",
        found_by: Found::Program("ip"),
        reason: "removes the tests' bridges",
    },
    Need {
        package: "systemd",
        found_by: Found::Program("systemd-analyze"),
        reason: "reads the service's unit",
    },
    Need {
        package: "protobuf-compiler",
        found_by: Found::Program("protoc"),
        reason: "compiles the definition of the client that stands in for kubelet",
    },
    Need {
        package: "util-linux",
        found_by: Found::Program("setpriv"),
        reason: "ends the daemon when the program that started it ends",
    },
    Need {
        package: "nodejs",
        found_by: Found::Program("node"),
        reason: "a runtime that the tests start by hand",
    },
    Need {
        package: "openjdk-17-jdk-headless",
        found_by: Found::Program("javac"),
        reason: "another, and the compiler of the functions that it is given",
    },
    Need {
        package: "libgoogle-gson-java",
        found_by: Found::File("/usr/share/java/gson.jar"),
        reason: "a library that a Java function of the tests brings",
    },
    Need {
        package: "python3-venv",
        found_by: Found::File("/var/lib/dpkg/info/python3-venv.list"),
        reason: "keeps what the tests install from a package index to itself",
    },
    Need {
        package: "python3-numpy",
        found_by: Found::File("/usr/lib/python3/dist-packages/numpy"),
        reason: "a library with native code that the tests' functions use",
    },
    Need {
        package: "python3-requests",
        // With its certificates it brings openssl, which makes one for the tests.
        found_by: Found::File("/usr/lib/python3/dist-packages/requests"),
        reason: "a library that the tests' functions use",
    },
    Need {
        package: "libgoogle-gson-java",
        found_by: Found::File("/usr/share/java/gson.jar"),
        reason: "a library that the tests' functions in Java use",
    },
];

/// What `cargo xtask bench` measures with, beside [`HOST`] and [`IMAGES`].
pub(crate) const BENCH: &[Need] = &[
    Need {
        package: "util-linux",
        found_by: Found::Program("taskset"),
        reason: "keeps what is measured on one processor",
    },
    Need {
        package: "python3-django",
        found_by: Found::File("/usr/lib/python3/dist-packages/django"),
        reason: "a library that templates are measured with",
    },
    Need {
        package: "python3-sqlalchemy",
        found_by: Found::File("/usr/lib/python3/dist-packages/sqlalchemy"),
        reason: "a library that templates are measured with",
    },
    Need {
        package: "python3-scipy",
        found_by: Found::File("/usr/lib/python3/dist-packages/scipy"),
        reason: "a library that templates are measured with",
    },
    Need {
        package: "python3-pandas",
        found_by: Found::File("/usr/lib/python3/dist-packages/pandas"),
        reason: "a library that templates are measured with",
    },
    Need {
        package: "python3-pil",
        found_by: Found::File("/usr/lib/python3/dist-packages/PIL"),
        reason: "the images that a measured function resizes",
    },
    Need {
        package: "python3-jinja2",
        found_by: Found::File("/usr/lib/python3/dist-packages/jinja2"),
        reason: "the templates that a measured function renders",
    },
];

/// Installs what is missing, or says what to install.
pub(crate) fn ensure(needs: &[&[Need]]) -> Result<()> {
    require_root()?;
    let missing: Vec<&Need> = needs
        .iter()
        .copied()
        .flatten()
        .filter(|need| !need.is_met())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_debian() || shell::which("apt-get").is_none() {
        let list: Vec<String> = missing.iter().map(|need| need.describe()).collect();
        bail!(
            "this host is not Debian, so nothing was installed; please install (Debian's names): {}",
            list.join("; ")
        );
    }
    eprintln!("==> installing Debian packages");
    for need in &missing {
        eprintln!("    {}", need.describe());
    }
    install(&missing)?;
    if let Some(need) = missing.iter().find(|need| !need.is_met()) {
        bail!(
            "{} was installed, but what it should bring is not there",
            need.package
        );
    }
    Ok(())
}

/// Fails unless this program runs as root.
pub(crate) fn require_root() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("this must run as root: it installs packages, mounts images and starts containers");
    }
    Ok(())
}

fn install(missing: &[&Need]) -> Result<()> {
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    if has_package_lists() && apt_install(&packages).is_ok() {
        return Ok(());
    }
    // Lists that are absent or too old name no package that the mirror has.
    shell::run(apt().arg("update"))?;
    apt_install(&packages)
}

fn apt_install(packages: &[&str]) -> Result<()> {
    shell::run(
        apt()
            .args(["install", "--yes", "--no-install-recommends"])
            .args(packages),
    )
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["--quiet=2", "--option=DPkg::Lock::Timeout=300"])
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn has_package_lists() -> bool {
    fs::read_dir("/var/lib/apt/lists").is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
    })
}

/// The value of a key in this host's os-release file, unquoted.
fn os_release(key: &str) -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    text.lines()
        .filter_map(|line| line.split_once('='))
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value.trim_matches('"').to_owned())
}

fn is_debian() -> bool {
    ["ID", "ID_LIKE"]
        .into_iter()
        .filter_map(os_release)
        .any(|ids| ids.split(' ').any(|id| id == "debian"))
}
