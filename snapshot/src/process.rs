//! Handles on one traced process, opened while the engine may still open them: a
//! worker that changed its uid shows its `/proc` files to nobody without
//! `CAP_SYS_PTRACE`, but what is open stays readable.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

use crate::maps::{Backing, Mapping};
use crate::own_pages::Counts;
use crate::sabotage::leaves_out;
use crate::span::PAGE;

/// One process's `/proc` files.
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) memory: File,
    pub(crate) pagemap: File,
    maps: File,
    descriptors: File,
    pub(crate) counts: Counts,
    /// Takes the word that resets the peak of its memory; some kernels are built
    /// without it.
    clear_refs: Option<File>,
}

impl Process {
    pub(crate) fn open(pid: Pid) -> io::Result<Self> {
        let path = |name: &str| format!("/proc/{pid}/{name}");
        Ok(Self {
            pid,
            memory: File::options().read(true).write(true).open(path("mem"))?,
            pagemap: File::open(path("pagemap"))?,
            maps: File::open(path("maps"))?,
            descriptors: File::open(path("fd"))?,
            counts: Counts::open(Path::new(&format!("/proc/{pid}")))?,
            clear_refs: File::options().write(true).open(path("clear_refs")).ok(),
        })
    }

    /// Forgets how much memory was resident at the most: from here on it is what is
    /// resident now (proc_pid_clear_refs(5)).
    pub(crate) fn reset_peak(&self) -> io::Result<()> {
        match &self.clear_refs {
            Some(file) => file.write_all_at(b"5", 0),
            None => Ok(()),
        }
    }

    /// Replaces `text` by the mapping list.
    pub(crate) fn read_maps(&self, text: &mut Vec<u8>) -> io::Result<()> {
        text.clear();
        loop {
            let filled = text.len();
            // The kernel hands out at most a page of lines a read.
            text.resize(filled + 8192, 0);
            let got = self.maps.read_at(&mut text[filled..], filled as u64)?;
            text.truncate(filled + got);
            if got == 0 {
                return Ok(());
            }
        }
    }

    /// True if the mapping list is this one. Asks the kernel mapping by mapping
    /// (`PROCMAP_QUERY`, since 6.11), which spares it printing every path.
    ///
    /// # Errors
    /// The kernel does not have the call; the text has to do.
    pub(crate) fn has_mappings(&self, expected: &[Mapping]) -> io::Result<bool> {
        let mut at = 0;
        // The vsyscall page is outside the process, and not told of here.
        for mapping in expected.iter().filter(|it| it.span.end <= USER_END) {
            match query_mapping(&self.maps, at)? {
                Some(found) if found.is(mapping) => at = mapping.span.end,
                _ => return Ok(false),
            }
        }
        Ok(query_mapping(&self.maps, at)?.is_none() || leaves_out("mappings:query-the-end"))
    }

    /// How many are open, where the kernel tells (proc(5): as the directory's size, since
    /// Linux 6.2).
    pub(crate) fn count_descriptors(&self) -> Option<usize> {
        let size = self.descriptors.metadata().ok()?.len();
        usize::try_from(size).ok().filter(|count| *count > 0)
    }

    /// Replaces `numbers` by the open descriptors, ascending as the kernel lists
    /// them.
    pub(crate) fn read_descriptors(&self, numbers: &mut Vec<i32>) -> io::Result<()> {
        numbers.clear();
        let fd = self.descriptors.as_raw_fd();
        // SAFETY: seeks a descriptor that is open as long as `self`.
        if unsafe { libc::lseek(fd, 0, libc::SEEK_SET) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut buffer = [0u8; 4096];
        loop {
            // SAFETY: the kernel writes at most the length given.
            let got = unsafe {
                libc::syscall(libc::SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len())
            };
            let got = match usize::try_from(got) {
                Ok(0) => return Ok(()),
                Ok(got) => got,
                Err(_) => return Err(io::Error::last_os_error()),
            };
            // struct linux_dirent64: ino u64, off i64, reclen u16, type u8, name.
            let mut entry = &buffer[..got];
            while entry.len() > 19 {
                let length = usize::from(u16::from_le_bytes([entry[16], entry[17]]));
                let name = entry[19..length].split(|byte| *byte == 0).next();
                if let Some(number) = name
                    .and_then(|name| std::str::from_utf8(name).ok())
                    .and_then(|name| name.parse().ok())
                {
                    numbers.push(number);
                }
                entry = &entry[length..];
            }
        }
    }

    /// How many descriptors it may have.
    pub(crate) fn descriptor_limit(&self) -> io::Result<u64> {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: writes one struct, reads none (prlimit(2)).
        let asked = unsafe {
            libc::prlimit(
                self.pid.as_raw(),
                libc::RLIMIT_NOFILE,
                std::ptr::null(),
                &raw mut limit,
            )
        };
        if asked != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(limit.rlim_cur)
    }

    /// Reads these pages, one behind the other.
    pub(crate) fn read_pages(&self, pages: &[u64], into: &mut [u8]) -> io::Result<()> {
        let page = PAGE as usize;
        // At most so many at once (readv(2)).
        for (pages, into) in pages.chunks(1024).zip(into.chunks_mut(1024 * page)) {
            let at_once: Vec<RemoteIoVec> = (pages.iter())
                .map(|base| RemoteIoVec {
                    base: *base as usize,
                    len: page,
                })
                .collect();
            let read = process_vm_readv(self.pid, &mut [IoSliceMut::new(into)], &at_once);
            if read == Ok(into.len()) {
                continue;
            }
            // Some may only be read with force, and not everybody may make that call.
            for (page, into) in pages.iter().zip(into.chunks_mut(page)) {
                self.read_memory(*page, into)?;
            }
        }
        Ok(())
    }

    /// Reads one memory range, whatever its protection.
    pub(crate) fn read_memory(&self, address: u64, into: &mut [u8]) -> io::Result<()> {
        self.memory.read_exact_at(into, address)
    }
}

/// The end of what a process may map.
const USER_END: u64 = 1 << 63;

/// `struct procmap_query` (`linux/fs.h`).
#[repr(C)]
#[derive(Default)]
struct MappingQuery {
    size: u64,
    query_flags: u64,
    query_addr: u64,
    vma_start: u64,
    vma_end: u64,
    vma_flags: u64,
    vma_page_size: u64,
    vma_offset: u64,
    inode: u64,
    dev_major: u32,
    dev_minor: u32,
    vma_name_size: u32,
    build_id_size: u32,
    vma_name_addr: u64,
    build_id_addr: u64,
}

/// `_IOWR('f', 17, struct procmap_query)`.
const PROCMAP_QUERY: libc::c_ulong = 0xc068_6611;
/// The mapping at the address, or the next one.
const COVERING_OR_NEXT_VMA: u64 = 0x10;
/// Of `vma_flags`, whose lower three bits are those of `Protection`.
const VMA_SHARED: u64 = 0x08;

impl MappingQuery {
    fn is(&self, mapping: &Mapping) -> bool {
        let (device, inode, offset) = match mapping.backing {
            Backing::File {
                device,
                inode,
                offset,
            } => (device, inode, offset),
            _ => ((0, 0), 0, 0),
        };
        (self.vma_start, self.vma_end) == (mapping.span.start, mapping.span.end)
            && (self.vma_flags & 0x7 == mapping.protection as u64
                || leaves_out("mappings:query-protection"))
            && ((self.vma_flags & VMA_SHARED != 0) == mapping.shared
                || leaves_out("mappings:query-shared"))
            && (((self.dev_major, self.dev_minor), self.inode) == (device, inode)
                || leaves_out("mappings:query-backing"))
            && (inode == 0 || self.vma_offset == offset || leaves_out("mappings:query-offset"))
    }
}

fn query_mapping(maps: &File, at: u64) -> io::Result<Option<MappingQuery>> {
    let mut query = MappingQuery {
        size: size_of::<MappingQuery>() as u64,
        query_flags: COVERING_OR_NEXT_VMA,
        query_addr: at,
        ..MappingQuery::default()
    };
    // SAFETY: the struct has the size it names; no name or build id is asked for,
    // so nothing else is written.
    if unsafe { libc::ioctl(maps.as_raw_fd(), PROCMAP_QUERY, &raw mut query) } == 0 {
        return Ok(Some(query));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOENT) => Ok(None),
        _ => Err(error),
    }
}

/// Bytes in a pipe or socket that nobody has read yet; either end of a pipe tells.
///
/// # Errors
/// The descriptor has no such count (ioctl(2), `FIONREAD`).
pub fn unread_bytes(descriptor: BorrowedFd<'_>) -> io::Result<usize> {
    let mut unread: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int.
    if unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::FIONREAD, &raw mut unread) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(unread).unwrap_or(0))
}
