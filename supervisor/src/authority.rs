//! What this process may do, as far as it decides how workers can be kept apart.

use std::path::Path;
use std::sync::OnceLock;

use nix::unistd::{geteuid, getpid, getppid};

/// What it takes to give workers a user of their own, to end them, and to put back and
/// remove what is theirs; with its number (capabilities(7)).
const NEEDED: [(&str, u32); 6] = [
    ("CHOWN", 0),
    ("DAC_OVERRIDE", 1),
    ("FOWNER", 3),
    ("KILL", 5),
    ("SETGID", 6),
    ("SETUID", 7),
];

/// What does no harm where a worker has it: binding low ports.
const HARMLESS: u64 = 1 << 10;

/// The number of the namespace of processes that a machine begins with (proc_ns.h).
const HOSTS_NAMESPACE: &str = "pid:[4026531836]";

/// Whose user workers have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Authority {
    /// One of their own.
    Full,
    /// The supervisor's, for this reason.
    None(String),
    /// It is root and lacks these of what it takes, and not the rest.
    Partial(String),
}

impl Authority {
    /// This process's, which it has for good: what it is asked for at every turn is read once.
    pub(crate) fn own() -> &'static Self {
        static OWN: OnceLock<Authority> = OnceLock::new();
        OWN.get_or_init(Self::of_this_process)
    }

    fn of_this_process() -> Self {
        if !geteuid().is_root() {
            return Self::None("not started as root".into());
        }
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let has = |set: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(set));
            line.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
        };
        // Where nothing says so root is what it was before there were capabilities.
        Self::of_root(
            has("CapEff:").unwrap_or(u64::MAX),
            has("CapPrm:").unwrap_or(u64::MAX),
        )
    }

    fn of_root(effective: u64, permitted: u64) -> Self {
        let missing: Vec<String> = NEEDED
            .iter()
            .filter(|(_, number)| effective & (1 << number) == 0)
            .map(|(name, _)| format!("CAP_{name}"))
            .collect();
        if missing.is_empty() {
            return Self::Full;
        }
        let missing = missing.join(", ");
        if permitted & !HARMLESS == 0 {
            return Self::None(format!("started as root without {missing}"));
        }
        Self::Partial(missing)
    }
}

/// All of them, for who has to add them.
pub(crate) fn needed() -> String {
    NEEDED.map(|(name, _)| name).join(", ")
}

/// Whether the files here are a container's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// They are: nobody else makes any.
    Container,
    /// It is in a container, and somebody else is its PID 1.
    BesideOthers,
    /// Nothing says so.
    Host,
}

impl Place {
    /// Where this process is; it is told if the container is its own. Nothing if that
    /// cannot be so.
    pub(crate) fn own(is_told: bool) -> Option<Self> {
        if getpid().as_raw() == 1 {
            return Some(Self::Container);
        }
        let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let is_host = namespace == Path::new(HOSTS_NAMESPACE);
        if is_told {
            // Everything new on a whole machine would be removed.
            return (!is_host).then_some(Self::Container);
        }
        // Started from outside the namespace, or by the init that a runtime puts before it.
        let is_first = getppid().as_raw() <= 1;
        Some(match is_first && !is_host {
            true => Self::BesideOthers,
            false => Self::Host,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_all_that_it_takes_or_nothing() {
        let all = NEEDED.iter().fold(0, |set, (_, number)| set | 1 << number);
        assert_eq!(Authority::of_root(all, all), Authority::Full);
        assert_eq!(Authority::of_root(u64::MAX, u64::MAX), Authority::Full);
        for permitted in [0, HARMLESS] {
            let Authority::None(why) = Authority::of_root(permitted, permitted) else {
                panic!("a worker would have nothing of it");
            };
            assert!(why.contains("CAP_SETUID"), "{why}");
        }
        // A worker of the same user would have the rest.
        let without_setuid = all & !(1 << 7);
        assert_eq!(
            Authority::of_root(without_setuid, without_setuid),
            Authority::Partial("CAP_SETUID".into())
        );
        assert!(matches!(Authority::of_root(0, all), Authority::Partial(_)));
    }
}
