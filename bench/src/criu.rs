//! CRIU, from a root file system of its own: that of the Debian release whose CRIU knows
//! kernels of today. It is made once, below the target directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::outside::Outcome;

/// The release, and what is needed of it.
const RELEASE: &str = "trixie";
const PACKAGES: &str = "criu,python3-minimal";

/// Puts the root file system in the place of the host's. In a namespace of processes of its
/// own: the number that the next restore needs is free there.
const ENTER: &str = r#"
set -eu
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mkdir -p run/host
pivot_root . run/host
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /dev
mknod -m 666 /dev/null c 1 3
umount -l /run/host
cd /tmp
exec bash -c "$RESTORE" bash "$2"
"#;

/// Starts a Python that does nothing, dumps it, and restores it again and again. Prints the
/// microseconds of each restore; with what went wrong it ends.
const RESTORE: &str = r#"
set -eu
mkdir images
setsid python3 -c 'import os, time
os.closerange(3, 1000)
open("/tmp/ready", "w").close()
time.sleep(100000)' </dev/null >/dev/null 2>&1 &
python=$!
until [ -e ready ]; do sleep 0.01; done
failed() { grep Error "images/$1" | tail -n 1 >&2; exit 1; }
criu dump --tree "$python" --images-dir images --log-file dump.log || failed dump.log
wait "$python" || true
for number in $(seq "$1"); do
  rm -f images/pid
  began=$EPOCHREALTIME
  criu restore --restore-detached --images-dir images --log-file restore.log \
    --pidfile pid || failed restore.log
  ended=$EPOCHREALTIME
  echo $(( ${ended/./} - ${began/./} ))
  restored=$(cat images/pid)
  kill -9 "$restored"
  while kill -0 "$restored" 2>/dev/null; do sleep 0.01; done
done
"#;

/// The times of restores of a Python that does nothing. `temporary` is a directory in the
/// target directory (`CARGO_TARGET_TMPDIR`), beside which the root file system is kept.
///
/// # Errors
/// There is no such root file system, or CRIU does not work there.
pub fn restore(temporary: &str, times: usize) -> Outcome {
    let target = Path::new(temporary).parent().ok_or("no target directory")?;
    let root = root(&target.join("criu"))?;
    let output = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child"])
        .args(["bash", "-c", ENTER, "bash"])
        .arg(&root)
        .arg(times.to_string())
        .env("RESTORE", RESTORE)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("unshare: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let taken: Vec<Duration> = said
        .lines()
        .filter_map(|line| line.parse().ok().map(Duration::from_micros))
        .collect();
    if output.status.success() && taken.len() == times {
        return Ok(taken);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let last = errors.trim().lines().last().unwrap_or("nothing was said");
    Err(format!("{}: {last}", output.status))
}

/// Makes the root file system, if it was not made before.
fn root(directory: &Path) -> Result<PathBuf, String> {
    let root = directory.join(RELEASE);
    if root.is_dir() {
        return Ok(root);
    }
    fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let unfinished = directory.join("unfinished");
    // Of an earlier try.
    let _ = fs::remove_dir_all(&unfinished);
    let made = Command::new("mmdebstrap")
        .args(["--quiet", "--variant=minbase", "--mode=root"])
        .arg(format!("--include={PACKAGES}"))
        .args([
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "--aptopt=Acquire::Languages \"none\"",
        ])
        .arg(RELEASE)
        .arg(&unfinished)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("mmdebstrap: {error}"))?;
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stderr);
        let last = said.trim().lines().last().unwrap_or_default();
        return Err(format!("mmdebstrap: {}: {last}", made.status));
    }
    fs::rename(&unfinished, &root).map_err(|error| error.to_string())?;
    Ok(root)
}
