//! What a function container is, as the runtime (runc) is told: an ordinary
//! unprivileged container, the same that Kubernetes would make of the image.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxDeviceCgroupBuilder, LinuxMemory,
    LinuxMemoryBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxPidsBuilder,
    LinuxResourcesBuilder, Mount, MountBuilder, PosixRlimitBuilder, PosixRlimitType,
    ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use super::seccomp;
use crate::containerd::images::ImageConfig;
use crate::host::Cgroups;

/// Where the supervisor's control channel is, inside the container.
pub const CONTROL_DIRECTORY: &str = "/run/refunction";

/// The control socket, inside the container.
pub const CONTROL_SOCKET: &str = "/run/refunction/control.sock";

/// The variable that tells the supervisor so.
pub(crate) const CONTROL_VARIABLE: &str = "REFUNCTION_CONTROL";

/// The parent of every function container's control group.
pub const CGROUP_PARENT: &str = "/refunction";

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What containerd and Docker give every container, and no more: the engine is
/// built to need neither CAP_SYS_PTRACE nor CAP_SYS_ADMIN.
const CAPABILITIES: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

const MASKED_PATHS: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const READ_ONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

const MIB: u64 = 1024 * 1024;

/// Bytes that /tmp may hold at most; Lambda's default.
const MAX_TMP_BYTES: u64 = 512 * MIB;

/// What one container is to be.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// Its id, which is also its host name.
    pub(super) id: &'a str,
    /// Its control group, from the root of each hierarchy.
    pub(super) cgroup: &'a str,
    /// What its image says.
    pub(super) image: &'a ImageConfig,
    /// Variables that go over the image's.
    pub(super) env: &'a BTreeMap<String, String>,
    /// Bytes.
    pub(super) memory_bytes: u64,
    /// Processes and threads.
    pub(super) pids: u32,
    /// The host's directory of the control channel.
    pub(super) control: &'a Path,
    /// Host files that are shown read-only at these places.
    pub(super) files: &'a [(PathBuf, &'static str)],
    /// How this host's control groups are laid out.
    pub(super) cgroups: Cgroups,
}

/// Why an image cannot become a function container.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// There is nothing to run.
    #[error(
        "the image has neither an entry point nor a command; refunction's images have the supervisor as ENTRYPOINT"
    )]
    NothingToRun,
    /// A part was refused by the specification's types.
    #[error("describing the container")]
    Build(#[from] OciSpecError),
}

/// The container's specification.
///
/// # Errors
/// The image names nothing to run.
pub(super) fn build(wanted: &Wanted<'_>) -> Result<Spec, SpecError> {
    let args = wanted.image.command();
    if args.is_empty() {
        return Err(SpecError::NothingToRun);
    }
    let capabilities: HashSet<_> = CAPABILITIES.into();
    let process = ProcessBuilder::default()
        .terminal(false)
        // The supervisor drops its workers to a user of their own; itself it
        // must be able to. A USER in the image therefore does not apply to it.
        .user(UserBuilder::default().uid(0u32).gid(0u32).build()?)
        .args(args)
        .env(environment(wanted))
        .cwd(wanted.image.working_directory())
        .capabilities(
            LinuxCapabilitiesBuilder::default()
                .bounding(capabilities.clone())
                .effective(capabilities.clone())
                .permitted(capabilities)
                .inheritable(HashSet::new())
                .ambient(HashSet::new())
                .build()?,
        )
        .rlimits(vec![
            PosixRlimitBuilder::default()
                .typ(PosixRlimitType::RlimitNofile)
                .hard(1024u64)
                .soft(1024u64)
                .build()?,
        ])
        .no_new_privileges(false)
        .build()?;

    let mut namespaces = vec![
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Mount,
        // Its own and with nothing but loopback: no way out unless one is built.
        LinuxNamespaceType::Network,
    ];
    if wanted.cgroups == Cgroups::V2 {
        // On version 2 the mount below would otherwise show the host's whole tree.
        namespaces.push(LinuxNamespaceType::Cgroup);
    }
    let namespaces = namespaces
        .into_iter()
        .map(|kind| LinuxNamespaceBuilder::default().typ(kind).build())
        .collect::<Result<Vec<_>, _>>()?;

    let linux = LinuxBuilder::default()
        .cgroups_path(wanted.cgroup)
        .namespaces(namespaces)
        .resources(
            LinuxResourcesBuilder::default()
                .devices(vec![
                    LinuxDeviceCgroupBuilder::default()
                        .allow(false)
                        .access("rwm")
                        .build()?,
                ])
                .memory(memory(wanted)?)
                .pids(
                    LinuxPidsBuilder::default()
                        .limit(i64::from(wanted.pids))
                        .build()?,
                )
                .build()?,
        )
        .seccomp(seccomp::runtime_default()?)
        .masked_paths(MASKED_PATHS.map(str::to_owned).to_vec())
        .readonly_paths(READ_ONLY_PATHS.map(str::to_owned).to_vec())
        .build()?;

    Ok(SpecBuilder::default()
        .version("1.0.2")
        .root(
            RootBuilder::default()
                .path("rootfs")
                .readonly(true)
                .build()?,
        )
        .hostname(wanted.id)
        .process(process)
        .mounts(mounts(wanted)?)
        .linux(linux)
        .build()?)
}

fn memory(wanted: &Wanted<'_>) -> Result<LinuxMemory, OciSpecError> {
    let limit = i64::try_from(wanted.memory_bytes).unwrap_or(i64::MAX);
    let memory = LinuxMemoryBuilder::default().limit(limit);
    if wanted.cgroups.can_limit_swap() {
        // The same figure: memory and swap together, that is, no swap. A
        // function over its limit dies at once instead of thrashing the host.
        memory.swap(limit)
    } else {
        memory
    }
    .build()
}

/// The image's variables, the caller's over them, and the control channel's last:
/// nobody but the daemon says where it is.
fn environment(wanted: &Wanted<'_>) -> Vec<String> {
    let mut variables: BTreeMap<&str, &str> = BTreeMap::new();
    variables.insert("PATH", DEFAULT_PATH);
    variables.insert("HOSTNAME", wanted.id);
    for entry in wanted.image.env() {
        if let Some((name, value)) = entry.split_once('=') {
            variables.insert(name, value);
        }
    }
    for (name, value) in wanted.env {
        variables.insert(name, value);
    }
    variables.insert(CONTROL_VARIABLE, CONTROL_SOCKET);
    variables
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

fn mounts(wanted: &Wanted<'_>) -> Result<Vec<Mount>, OciSpecError> {
    // What is written there counts as the container's memory; half of it leaves
    // the function room to say "no space left on device" instead of dying.
    let tmp_bytes = (wanted.memory_bytes / 2).clamp(MIB, MAX_TMP_BYTES);
    let tmp = format!("size={tmp_bytes}");
    let shared = format!("size={}", tmp_bytes.min(64 * MIB));
    let mut mounts = vec![
        mount("proc", "/proc", "proc", &["nosuid", "noexec", "nodev"])?,
        mount(
            "tmpfs",
            "/dev",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        )?,
        mount(
            "devpts",
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        )?,
        mount(
            "tmpfs",
            "/dev/shm",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", &shared],
        )?,
        mount(
            "mqueue",
            "/dev/mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        )?,
        mount(
            "sysfs",
            "/sys",
            "sysfs",
            &["nosuid", "noexec", "nodev", "ro"],
        )?,
        // Read-only: the supervisor reads its own memory figures there.
        mount(
            "cgroup",
            "/sys/fs/cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", "ro"],
        )?,
        mount(
            "tmpfs",
            "/tmp",
            "tmpfs",
            &["nosuid", "nodev", "mode=1777", &tmp],
        )?,
        mount(
            "tmpfs",
            "/var/tmp",
            "tmpfs",
            &["nosuid", "nodev", "mode=1777", &tmp],
        )?,
        mount(
            "tmpfs",
            "/run",
            "tmpfs",
            &["nosuid", "nodev", "mode=755", "size=16m"],
        )?,
        bind(wanted.control, CONTROL_DIRECTORY, "rw")?,
    ];
    for (host, place) in wanted.files {
        mounts.push(bind(host, place, "ro")?);
    }
    Ok(mounts)
}

fn mount(kind: &str, at: &str, source: &str, options: &[&str]) -> Result<Mount, OciSpecError> {
    MountBuilder::default()
        .typ(kind)
        .destination(at)
        .source(source)
        .options(
            options
                .iter()
                .map(|it| (*it).to_owned())
                .collect::<Vec<_>>(),
        )
        .build()
}

fn bind(host: &Path, at: &str, access: &str) -> Result<Mount, OciSpecError> {
    let options = ["bind", "private", access, "nosuid", "nodev", "noexec"];
    MountBuilder::default()
        .typ("bind")
        .destination(at)
        .source(host)
        .options(options.map(str::to_owned).to_vec())
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ImageConfig {
        ImageConfig::for_test(
            &["/supervisor"],
            &["app.handler"],
            &[
                "PATH=/opt/bin",
                "LANG=C.UTF-8",
                "REFUNCTION_CONTROL=/elsewhere",
            ],
            "/var/task",
        )
    }

    fn spec(image: &ImageConfig, cgroups: Cgroups) -> serde_json::Value {
        let env = BTreeMap::from([("LANG".to_owned(), "de".to_owned())]);
        let wanted = Wanted {
            id: "python-1",
            cgroup: "/refunction/python-1-abc",
            image,
            env: &env,
            memory_bytes: 256 * MIB,
            pids: 64,
            control: Path::new("/host/control"),
            files: &[(PathBuf::from("/host/hosts"), "/etc/hosts")],
            cgroups,
        };
        serde_json::to_value(build(&wanted).unwrap()).unwrap()
    }

    #[test]
    fn the_container_is_unprivileged() {
        let spec = spec(&image(), Cgroups::V1 { swap: true });
        let bounding = spec["process"]["capabilities"]["bounding"]
            .as_array()
            .unwrap();
        assert_eq!(bounding.len(), 14);
        for never in [
            "CAP_SYS_ADMIN",
            "CAP_SYS_PTRACE",
            "CAP_NET_ADMIN",
            "CAP_DAC_READ_SEARCH",
        ] {
            assert!(!bounding.iter().any(|it| it == never), "{never}");
        }
        assert_eq!(spec["root"]["readonly"], true);
        assert_eq!(spec["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
        let kinds: Vec<_> = spec["linux"]["namespaces"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["type"].as_str().unwrap())
            .collect();
        for kind in ["pid", "ipc", "uts", "mount", "network"] {
            assert!(kinds.contains(&kind), "{kind}");
        }
        assert!(!kinds.contains(&"user"));
    }

    #[test]
    fn limits_and_cgroup_are_its_own() {
        let limit = 256 * MIB;
        let one = spec(&image(), Cgroups::V1 { swap: false });
        assert_eq!(one["linux"]["resources"]["memory"]["limit"], limit);
        assert!(one["linux"]["resources"]["memory"].get("swap").is_none());
        assert_eq!(one["linux"]["resources"]["pids"]["limit"], 64);
        assert_eq!(one["linux"]["cgroupsPath"], "/refunction/python-1-abc");
        let two = spec(&image(), Cgroups::V2);
        assert_eq!(two["linux"]["resources"]["memory"]["swap"], limit);
        let kinds = two["linux"]["namespaces"].to_string();
        assert!(kinds.contains("cgroup"), "{kinds}");
    }

    #[test]
    fn the_environment_is_layered_and_control_has_the_last_word() {
        let spec = spec(&image(), Cgroups::V2);
        let env: Vec<_> = spec["process"]["env"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it.as_str().unwrap())
            .collect();
        assert!(env.contains(&"PATH=/opt/bin"));
        assert!(env.contains(&"LANG=de"));
        assert!(env.contains(&"REFUNCTION_CONTROL=/run/refunction/control.sock"));
        assert_eq!(
            spec["process"]["args"],
            serde_json::json!(["/supervisor", "app.handler"])
        );
        assert_eq!(spec["process"]["cwd"], "/var/task");
        assert_eq!(spec["hostname"], "python-1");
    }

    #[test]
    fn what_can_be_written_is_bounded_and_control_lies_over_run() {
        let spec = spec(&image(), Cgroups::V2);
        let mounts = spec["mounts"].as_array().unwrap();
        let place = |at: &str| {
            mounts
                .iter()
                .position(|it| it["destination"] == at)
                .unwrap()
        };
        assert!(place("/run") < place("/run/refunction"));
        for at in ["/tmp", "/var/tmp", "/dev/shm", "/run"] {
            let options = mounts[place(at)]["options"].to_string();
            assert!(
                options.contains("size=") && options.contains("nosuid"),
                "{at}: {options}"
            );
        }
        assert_eq!(mounts[place("/run/refunction")]["source"], "/host/control");
        assert!(
            mounts[place("/etc/hosts")]["options"]
                .to_string()
                .contains("\"ro\"")
        );
    }

    #[test]
    fn an_image_without_a_command_is_refused() {
        let empty = ImageConfig::for_test(&[], &[], &[], "");
        let env = BTreeMap::new();
        let wanted = Wanted {
            id: "x",
            cgroup: "/refunction/x",
            image: &empty,
            env: &env,
            memory_bytes: MIB,
            pids: 1,
            control: Path::new("/c"),
            files: &[],
            cgroups: Cgroups::V2,
        };
        assert!(matches!(build(&wanted), Err(SpecError::NothingToRun)));
    }
}
