//! What the processor's architecture decides: which number a call has, and by which
//! conventions it can be made.

/// One architecture's numbers, and what the filter must know to tell them from others.
pub(super) struct Architecture {
    /// What seccomp calls it (`linux/audit.h`).
    pub(super) audit: u32,
    /// One above the highest number that has a name.
    pub(super) end: u32,
    /// The name of the call that has this number.
    pub(super) name: fn(u32) -> Option<&'static str>,
    /// A bit of the number that stands for another convention under the same name in
    /// seccomp's eyes.
    pub(super) foreign: Option<u32>,
}

/// `__AUDIT_ARCH_64BIT | __AUDIT_ARCH_LE` (`linux/audit.h`); the machine's ELF number
/// completes it.
const LITTLE_ENDIAN_64: u32 = 0xc000_0000;

#[cfg(any(test, target_arch = "x86_64"))]
pub(super) const X86_64: Architecture = Architecture {
    audit: LITTLE_ENDIAN_64 | libc::EM_X86_64 as u32,
    end: syscalls::x86_64::Sysno::table_size() as u32,
    name: |number| Some(syscalls::x86_64::Sysno::new(number as usize)?.name()),
    // `__X32_SYSCALL_BIT` (asm/unistd.h).
    foreign: Some(0x4000_0000),
};

#[cfg(any(test, target_arch = "aarch64"))]
pub(super) const AARCH64: Architecture = Architecture {
    audit: LITTLE_ENDIAN_64 | libc::EM_AARCH64 as u32,
    end: syscalls::aarch64::Sysno::table_size() as u32,
    name: |number| Some(syscalls::aarch64::Sysno::new(number as usize)?.name()),
    foreign: None,
};

/// The one that this is built for.
#[cfg(target_arch = "x86_64")]
pub(super) const NATIVE: Architecture = X86_64;
/// The one that this is built for.
#[cfg(target_arch = "aarch64")]
pub(super) const NATIVE: Architecture = AARCH64;

#[cfg(test)]
impl Architecture {
    /// Every call, by number and name.
    pub(super) fn calls(&self) -> impl Iterator<Item = (u32, &'static str)> {
        (0..self.end).filter_map(|number| Some((number, (self.name)(number)?)))
    }
}
