//! What an operator installs, read by those that are to take it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use refunction_tests::environment;
use refunction_tests::host;

const PACKAGING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging");

/// Knows the schemas of Kubernetes, from a package index.
const VALIDATOR: &str = "kubernetes-validate==1.37.0";

/// Those of the releases that are supported.
const RELEASES: [&str; 2] = ["1.33", "1.37"];

#[test]
fn systemd_takes_the_unit() {
    let directory = std::env::temp_dir().join(format!("refunction-unit-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory");
    let unit = fs::read_to_string(Path::new(PACKAGING).join("refunctiond.service")).expect("it");
    // The program has to be there.
    let program = environment::file("REFUNCTIOND");
    let program = program.canonicalize().expect("its whole path");
    let unit = unit.replace("/usr/local/bin/refunctiond", &program.to_string_lossy());
    let verify = |name: &str, unit: &str| {
        let path = directory.join(name);
        fs::write(&path, unit).expect("written");
        let mut command = Command::new("systemd-analyze");
        let answer = host::run(command.args(["verify", "--man=no"]).arg(path), b"");
        let said: Vec<String> = answer
            .errors
            .lines()
            .filter(|line| line.contains(name))
            .map(str::to_owned)
            .collect();
        said
    };
    let said = verify("refunctiond.service", &unit);
    assert!(said.is_empty(), "{said:?}");
    // It would have been noticed.
    let said = verify(
        "wrong.service",
        &unit.replace("KillMode=process", "KillMode=none-such"),
    );
    assert_eq!(said.len(), 1, "{said:?}");
    fs::remove_dir_all(directory).expect("removed");
}

/// What a systemd with these settings would do to what outlives the daemon.
#[test]
fn stopping_the_service_stops_no_container() {
    let unit = fs::read_to_string(Path::new(PACKAGING).join("refunctiond.service")).expect("it");
    let settings: BTreeSet<&str> = unit.lines().filter(|line| line.contains('=')).collect();
    for setting in [
        "KillMode=process",
        "RuntimeDirectoryPreserve=yes",
        "Type=notify",
    ] {
        assert!(settings.contains(setting), "{setting}");
    }
    // Each of these makes a mount namespace, which takes the daemon's mounts with it.
    for name in [
        "PrivateTmp",
        "PrivateDevices",
        "PrivateMounts",
        "ProtectSystem",
        "ProtectHome",
        "ProtectKernelModules",
        "ProtectKernelTunables",
        "ProtectKernelLogs",
        "ProtectControlGroups",
        "ReadWritePaths",
        "ReadOnlyPaths",
        "InaccessiblePaths",
        "BindPaths",
        "TemporaryFileSystem",
        "ProtectProc",
        "ProcSubset",
        "RootDirectory",
        "DynamicUser",
        "PrivateUsers",
        "MountFlags",
    ] {
        let set = settings
            .iter()
            .any(|line| line.starts_with(&format!("{name}=")));
        assert!(!set, "{name}");
    }
}

/// The interpreter that has the validator; nothing where there is no package index.
fn validator() -> Option<PathBuf> {
    let home = environment::kept().join("kubernetes-validate");
    let program = home.join("bin/kubernetes-validate");
    if !program.is_file() {
        let _ = fs::remove_dir_all(&home);
        let made = [
            Command::new("/usr/bin/python3")
                .args(["-m", "venv"])
                .arg(&home)
                .output(),
            Command::new(home.join("bin/pip"))
                .args(["install", "--quiet", "--no-input", "--retries=1", VALIDATOR])
                .output(),
        ];
        if !made
            .iter()
            .all(|it| it.as_ref().is_ok_and(|it| it.status.success()))
        {
            println!("skipped: the schemas cannot be installed with pip: {made:?}");
            let _ = fs::remove_dir_all(&home);
            return None;
        }
    }
    Some(program)
}

#[test]
fn kubernetes_takes_the_manifests() {
    let Some(program) = validator() else {
        return;
    };
    let validate = |file: &Path, release: &str| {
        let mut command = Command::new(&program);
        command.args(["--strict", "--kubernetes-version", release]);
        host::run(command.arg(file), b"")
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(Path::new(PACKAGING).join("kubernetes")).expect("manifests") {
        files.push(entry.expect("an entry").path());
    }
    assert!(files.len() >= 3, "{files:?}");
    for file in &files {
        for release in RELEASES {
            let answer = validate(file, release);
            assert_eq!(answer.code, 0, "{answer:?}");
        }
    }
    // It would have been noticed.
    let wrong = environment::kept().join(format!("wrong-{}.yaml", std::process::id()));
    let text = fs::read_to_string(Path::new(PACKAGING).join("kubernetes/daemonset.yaml"));
    let text = text.expect("it").replace("hostPID:", "hostPid:");
    fs::write(&wrong, text).expect("written");
    let answer = validate(&wrong, RELEASES[0]);
    fs::remove_file(wrong).expect("removed");
    assert_ne!(answer.code, 0, "{answer:?}");
}

#[test]
fn the_daemon_takes_what_the_daemonset_gives_it() {
    let manifest = Path::new(PACKAGING).join("kubernetes/daemonset.yaml");
    let manifest = fs::read_to_string(manifest).expect("it");
    let settings: Vec<&str> = manifest
        .lines()
        .skip_while(|line| !line.ends_with("refunctiond.toml: |"))
        .skip(1)
        .take_while(|line| line.starts_with("    ") || line.is_empty())
        .collect();
    let file =
        std::env::temp_dir().join(format!("refunction-daemonset-{}.toml", std::process::id()));
    // Whether there is a containerd is the node's affair.
    let settings = settings.join("\n") + "\n[containerd]\nprivate = true\n";
    fs::write(&file, settings).expect("written");
    let mut command = Command::new(environment::file("REFUNCTIOND"));
    let answer = host::run(command.arg("--check-config").arg(&file), b"");
    fs::remove_file(file).expect("removed");
    assert_eq!(answer.code, 0, "{answer:?}");
}
