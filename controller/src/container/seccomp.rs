//! The seccomp profile that containerd and Kubernetes call `RuntimeDefault`.
//!
//! The profile as it applies to a container with the default capabilities: the
//! rules that a further capability would add are not here, since no container
//! of ours gets one. `io_uring` is left out and `AF_VSOCK` refused, as newer
//! containerd versions do. A name that the host's libseccomp does not know is
//! skipped by runc.

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompBuilder, LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

/// System calls that are allowed whatever their arguments, as words.
const ALLOWED: &str = include_str!("seccomp_allowed.txt");

/// Allowed because CAP_SYS_CHROOT is a default capability; and ptrace, harmless
/// to the filter since Linux 4.8.
const ALLOWED_BY_CONTEXT: [&str; 2] = ["chroot", "ptrace"];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURES: &[Arch] = &[Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32];
#[cfg(target_arch = "x86_64")]
const ALLOWED_BY_ARCHITECTURE: &[&str] = &["arch_prctl", "modify_ldt"];

#[cfg(target_arch = "aarch64")]
const ARCHITECTURES: &[Arch] = &[Arch::ScmpArchAarch64, Arch::ScmpArchArm];
#[cfg(target_arch = "aarch64")]
const ALLOWED_BY_ARCHITECTURE: &[&str] = &[
    "arm_fadvise64_64",
    "arm_sync_file_range",
    "breakpoint",
    "cacheflush",
    "set_tls",
    "sync_file_range2",
];

/// The personalities that change nothing security depends on: Linux, its 32-bit
/// flavour, both with `UNAME26`, and the query.
const PERSONALITIES: [u64; 5] = [0x0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const CLONE_NEW_ANY: u64 = 0x7e02_0000;

const AF_VSOCK: u64 = 40;

const ENOSYS: u32 = 38;

/// The profile for this machine's architecture.
///
/// # Errors
/// The builder refused a part; a mistake in the tables above.
pub(super) fn runtime_default() -> Result<LinuxSeccomp, OciSpecError> {
    let mut rules = vec![allow(
        ALLOWED
            .split_ascii_whitespace()
            .chain(ALLOWED_BY_CONTEXT)
            .chain(ALLOWED_BY_ARCHITECTURE.iter().copied()),
        None,
    )?];
    for personality in PERSONALITIES {
        let is = argument(0, personality, None, LinuxSeccompOperator::ScmpCmpEq)?;
        rules.push(allow(["personality"], Some(is))?);
    }
    let not_vsock = argument(0, AF_VSOCK, None, LinuxSeccompOperator::ScmpCmpNe)?;
    rules.push(allow(["socket"], Some(not_vsock))?);
    // Flags of clone() are in a register and can be looked at …
    let no_new_namespace = argument(
        0,
        CLONE_NEW_ANY,
        Some(0),
        LinuxSeccompOperator::ScmpCmpMaskedEq,
    )?;
    rules.push(allow(["clone"], Some(no_new_namespace))?);
    // … those of clone3() are behind a pointer and cannot; ENOSYS makes the C
    // library fall back to clone().
    rules.push(
        LinuxSyscallBuilder::default()
            .names(["clone3".to_owned()])
            .action(LinuxSeccompAction::ScmpActErrno)
            .errno_ret(ENOSYS)
            .build()?,
    );
    LinuxSeccompBuilder::default()
        // Without a value of its own: EPERM.
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .architectures(ARCHITECTURES.to_vec())
        .syscalls(rules)
        .build()
}

fn allow<'a>(
    names: impl IntoIterator<Item = &'a str>,
    when: Option<LinuxSeccompArg>,
) -> Result<LinuxSyscall, OciSpecError> {
    let rule = LinuxSyscallBuilder::default()
        .names(names.into_iter().map(str::to_owned).collect::<Vec<_>>())
        .action(LinuxSeccompAction::ScmpActAllow);
    match when {
        Some(argument) => rule.args(vec![argument]),
        None => rule,
    }
    .build()
}

fn argument(
    index: usize,
    value: u64,
    value_two: Option<u64>,
    op: LinuxSeccompOperator,
) -> Result<LinuxSeccompArg, OciSpecError> {
    let argument = LinuxSeccompArgBuilder::default()
        .index(index)
        .value(value)
        .op(op);
    match value_two {
        Some(value_two) => argument.value_two(value_two),
        None => argument,
    }
    .build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn unconditionally_allowed() -> BTreeSet<String> {
        let profile = runtime_default().unwrap();
        let rules = profile.syscalls().as_ref().unwrap();
        rules
            .iter()
            .filter(|rule| rule.args().is_none())
            .filter(|rule| rule.action() == LinuxSeccompAction::ScmpActAllow)
            .flat_map(|rule| rule.names().clone())
            .collect()
    }

    #[test]
    fn what_the_engine_relies_on_is_as_the_default_profile_has_it() {
        let allowed = unconditionally_allowed();
        for name in [
            "ptrace",
            "memfd_create",
            "seccomp",
            "pidfd_open",
            "chroot",
            "rseq",
        ] {
            assert!(allowed.contains(name), "{name}");
        }
        for name in [
            "process_vm_writev",
            "process_vm_readv",
            "process_madvise",
            "userfaultfd",
            "mount",
            "unshare",
            "setns",
            "bpf",
            "perf_event_open",
            "keyctl",
            "io_uring_setup",
            "kexec_load",
            "clone",
            "clone3",
            "personality",
            "socket",
        ] {
            assert!(!allowed.contains(name), "{name}");
        }
    }

    #[test]
    fn every_name_stands_once() {
        let names: Vec<_> = ALLOWED.split_ascii_whitespace().collect();
        let distinct: BTreeSet<_> = names.iter().collect();
        assert_eq!(names.len(), distinct.len());
    }

    #[test]
    fn clone3_is_answered_as_if_the_kernel_had_none() {
        let json = serde_json::to_value(runtime_default().unwrap()).unwrap();
        let rules = json["syscalls"].as_array().unwrap();
        let clone3 = rules
            .iter()
            .find(|rule| rule["names"][0] == "clone3")
            .unwrap();
        assert_eq!(clone3["action"], "SCMP_ACT_ERRNO");
        assert_eq!(clone3["errnoRet"], 38);
        let clone = rules
            .iter()
            .find(|rule| rule["names"][0] == "clone")
            .unwrap();
        assert_eq!(clone["args"][0]["op"], "SCMP_CMP_MASKED_EQ");
        assert_eq!(clone["args"][0]["valueTwo"], 0);
        assert_eq!(json["defaultAction"], "SCMP_ACT_ERRNO");
    }
}
