//! The part that runs in the template and in its workers, as their own code: it
//! waits to be frozen, forks when told to, and arranges a newborn's descriptors.
//!
//! The engine could inject all of this, but a cooperating template is simpler and
//! as quick: between two forks it touches a page or two of stack.

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{Gid, Uid};

use crate::arch;
use crate::message::{
    FAILED, FORK, GIVEN, GROW, IMAGE, MAX_ASKED, MAX_DESCRIPTORS, MAX_MESSAGE, OnExec, PLACE,
    READY, hear, receive, receive_more, send,
};
use crate::quiet;
use crate::sabotage::leaves_out;
use crate::sibling;
use crate::stub::TABLE_BYTES;
use crate::thread_areas::ThreadAreas;

/// Numbers from here on are out of the way of the descriptors that workers get.
const OUT_OF_THE_WAY: RawFd = 64;

/// The first descriptors of a worker: those that an exec leaves open.
pub(crate) const STANDARD_STREAMS: usize = 3;

/// Where a program that is to become a runtime finds the table, until it is mapped.
pub(crate) const TABLE_NUMBER: RawFd = OUT_OF_THE_WAY - 1;

/// The template's end of its conversation with the engine.
pub struct Template {
    socket: OwnedFd,
    image: OwnedFd,
    /// Where its workers find what they are given: only they read from it.
    given: OwnedFd,
}

/// What a worker was given.
pub struct Newborn {
    /// Its descriptors, numbered from 0; those from 3 on close on exec. The
    /// image's memfd, from which its mappings can be remade, has the next number;
    /// nothing else is open.
    pub descriptors: Vec<OwnedFd>,
    /// The user and group that it is to run as.
    pub owner: (Uid, Gid),
}

/// Who a fork of the template is.
pub enum Born {
    /// A worker.
    Worker(Newborn),
    /// A process that is to become a template, as its parent is one.
    Layer(Layer),
}

/// What a process was given that is to become a template itself.
pub struct Layer {
    /// Its conversation with the engine: to [serve](Template::serve), or to
    /// [fail](Template::fail).
    pub template: Template,
    /// What the engine's caller asked of it.
    pub asked: Vec<u8>,
}

/// Rust's start-up installs handlers that tell a stack overflow from other faults;
/// they swallow the first SIGSEGV or SIGBUS that is sent rather than raised, and
/// are no part of what a runtime finds in a program of its own.
fn forget_fault_handlers() -> io::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGSEGV, Signal::SIGBUS] {
        // SAFETY: takes handlers away, installs none.
        unsafe { sigaction(signal, &default) }?;
    }
    Ok(())
}

impl Template {
    /// Takes up the conversation that the engine opened on descriptor 0, and
    /// returns once the engine has attached.
    ///
    /// # Errors
    /// Descriptor 0 is not such a socket.
    pub fn adopt() -> io::Result<Self> {
        forget_fault_handlers()?;
        let socket = duplicate_at(io::stdin().as_fd(), OUT_OF_THE_WAY)?;
        let null = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        nix::unistd::dup2_stdin(&null)?;
        let mut message = [0; 1];
        let (length, mut descriptors) = receive(socket.as_fd(), &mut message)?;
        match (length, descriptors.pop(), descriptors.pop()) {
            (1, Some(given), Some(image)) if message[0] == IMAGE => Ok(Self {
                socket,
                image: duplicate_at(image.as_fd(), OUT_OF_THE_WAY)?,
                given: duplicate_at(given.as_fd(), OUT_OF_THE_WAY)?,
            }),
            _ => Err(io::Error::other("descriptor 0 does not lead to an engine")),
        }
    }

    /// Tells the engine that this process cannot become a template.
    pub fn fail(self, reason: &str) {
        let reason = &reason.as_bytes()[..reason.len().min(MAX_MESSAGE - 1)];
        // If the engine is gone there is nobody to tell.
        let _ = send(self.socket.as_fd(), &[&[FAILED], reason], &[]);
    }

    /// Becomes the template: `description` reaches the engine, the process is
    /// frozen here, and the call returns in each fork, never in the template.
    ///
    /// # Errors
    /// In the template: the engine is gone ([`io::ErrorKind::UnexpectedEof`]), or
    /// broke the conversation. In a worker: its descriptors could not be arranged.
    pub fn serve(self, description: &[u8]) -> io::Result<Born> {
        if std::fs::read_dir("/proc/self/task")?.count() != 1 {
            return Err(io::Error::other(
                "the process has threads, which a fork would lose",
            ));
        }
        let areas = ThreadAreas::of_this_thread()?;
        if description.len() + 5 > MAX_MESSAGE {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        quiet::make_room();
        quiet::forget_dead_frames()?;
        let streams = Streams::put_away()?;
        let image = self.image.as_raw_fd().to_le_bytes();
        send(self.socket.as_fd(), &[&[READY], &image, description], &[])?;
        arch::park();
        loop {
            // On the stack: each page that is written to between two forks is copied by the next.
            let mut message = [0; 1 + MAX_ASKED];
            let length = hear(self.socket.as_fd(), &mut message)?;
            match &message[..length] {
                [] => return Err(io::ErrorKind::UnexpectedEof.into()),
                [FORK, rest @ ..] if rest.len() == 16 => {
                    let word = |at: usize| {
                        let bytes = [rest[at], rest[at + 1], rest[at + 2], rest[at + 3]];
                        u32::from_le_bytes(bytes)
                    };
                    let address = u64::from(word(0)) | u64::from(word(4)) << 32;
                    let owner = (Uid::from_raw(word(8)), Gid::from_raw(word(12)));
                    if areas.fork()? {
                        let descriptors = self.be_born(address)?;
                        // What the template has is closed by now.
                        std::mem::forget((self, streams));
                        return Ok(Born::Worker(Newborn { descriptors, owner }));
                    }
                }
                [GROW, asked @ ..] => {
                    let mut said = [0];
                    let (_, coming) = receive(self.socket.as_fd(), &mut said)?;
                    if said != [GIVEN] || coming.len() != 3 {
                        return Err(io::Error::other("the engine broke the conversation"));
                    }
                    if areas.fork()? {
                        return be_grown(asked, coming, &streams).map(Born::Layer);
                    }
                }
                _ => return Err(io::Error::other("the engine broke the conversation")),
            }
        }
    }

    /// Takes, in a fork, what belongs to a worker, and closes what does not; its descriptors.
    fn be_born(&self, table_address: u64) -> io::Result<Vec<OwnedFd>> {
        // What comes gets the lowest numbers, which the template left free.
        let mut coming = Vec::with_capacity(MAX_DESCRIPTORS + 2);
        for on_exec in [OnExec::Stay, OnExec::Close] {
            receive_more(self.given.as_fd(), &mut [0], &mut coming, on_exec)?;
        }
        if !(coming.iter().zip(0..)).all(|(it, number)| it.as_raw_fd() == number) {
            return Err(io::Error::other("its descriptors have other numbers"));
        }
        let table = coming.pop().ok_or(io::ErrorKind::InvalidData)?;
        map_table(table.as_fd(), table_address)?;
        sibling::fault_in(table_address);
        close_all(table.into_raw_fd()..=RawFd::MAX)?;
        // The image, which belongs to the mappings.
        coming.pop().map(IntoRawFd::into_raw_fd);
        widen_descriptor_table()?;
        Ok(coming)
    }
}

/// Arranges, in a fork, what belongs to a layer.
fn be_grown(asked: &[u8], coming: Vec<OwnedFd>, streams: &Streams) -> io::Result<Layer> {
    let out_of_the_way = (coming.iter())
        .map(|it| duplicate_at(it.as_fd(), OUT_OF_THE_WAY))
        .collect::<io::Result<Vec<_>>>()?;
    let Ok([socket, image, given]) = <[OwnedFd; 3]>::try_from(out_of_the_way) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    // Their numbers are those of the streams.
    drop(coming);
    streams.bring_back()?;
    Ok(Layer {
        template: Template {
            socket,
            image,
            given,
        },
        asked: asked.to_vec(),
    })
}

/// The template's own standard streams, as long as those of workers come where they were.
struct Streams([Option<OwnedFd>; STANDARD_STREAMS]);

impl Streams {
    /// Closes all whose numbers are for what workers get: nothing of it would be open in a
    /// worker.
    fn put_away() -> io::Result<Self> {
        let mut streams = [const { None }; STANDARD_STREAMS];
        for (stream, number) in streams.iter_mut().zip(0..) {
            // SAFETY: looked at for as long as this call.
            let standard = unsafe { BorrowedFd::borrow_raw(number) };
            *stream = duplicate_at(standard, OUT_OF_THE_WAY).ok();
        }
        close_all(0..=OUT_OF_THE_WAY - 1)?;
        Ok(Self(streams))
    }

    fn bring_back(&self) -> io::Result<()> {
        for (stream, number) in self.0.iter().zip(0..) {
            let Some(stream) = stream else { continue };
            // SAFETY: nothing has that number since they were put away.
            if unsafe { libc::dup2(stream.as_raw_fd(), number) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }
}

/// Closes all descriptors of these numbers.
fn close_all(numbers: RangeInclusive<RawFd>) -> io::Result<()> {
    let (first, last) = numbers.into_inner();
    // SAFETY: what is closed belongs to no Rust owner that outlives this: it was given to the
    // workers to come, or opened by the runtime, of whose descriptors a worker has none.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A program that takes a runtime's place before it: it takes what the runtime is to
/// have, gives up what that may not have, and is replaced by it (execve(2)).
pub struct Launch {
    socket: OwnedFd,
}

impl Launch {
    /// Takes up the conversation that the engine opened on descriptor 0, and returns
    /// once the engine has attached and given the descriptors, which are then where they
    /// belong. All others are closed by the exec to come.
    ///
    /// # Errors
    /// Descriptor 0 is not such a socket.
    pub fn adopt() -> io::Result<Self> {
        let socket = duplicate_at(io::stdin().as_fd(), OUT_OF_THE_WAY)?;
        let mut message = [0; 1];
        let (length, descriptors) = receive(socket.as_fd(), &mut message)?;
        if length != 1 || message[0] != PLACE {
            return Err(io::Error::other("descriptor 0 does not lead to an engine"));
        }
        let descriptors = descriptors
            .into_iter()
            .map(|descriptor| duplicate_at(descriptor.as_fd(), OUT_OF_THE_WAY))
            .collect::<io::Result<Vec<_>>>()?;
        // SAFETY: marks descriptors; what is placed below is marked anew.
        if unsafe {
            libc::syscall(
                libc::SYS_close_range,
                0,
                u32::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            )
        } < 0
        {
            return Err(io::Error::last_os_error());
        }
        let last = descriptors.len().saturating_sub(1);
        for (number, descriptor) in descriptors.iter().enumerate() {
            let number = if number == last {
                TABLE_NUMBER
            } else {
                number as RawFd
            };
            // SAFETY: the numbers below OUT_OF_THE_WAY belong to this function, as in
            // `Template::be_born`.
            if unsafe { libc::dup2(descriptor.as_raw_fd(), number) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Self { socket })
    }

    /// Tells the engine what there is to say of the runtime before it runs.
    ///
    /// # Errors
    /// The engine is gone.
    pub fn announce(&self, description: &[u8]) -> io::Result<()> {
        send(self.socket.as_fd(), &[&[READY], description], &[])
    }

    /// Tells the engine that there will be no runtime.
    pub fn fail(self, reason: &str) {
        let reason = &reason.as_bytes()[..reason.len().min(MAX_MESSAGE - 1)];
        // If the engine is gone there is nobody to tell.
        let _ = send(self.socket.as_fd(), &[&[FAILED], reason], &[]);
    }
}

/// The most entries that a worker's table of descriptors is given at its birth.
pub(crate) const WIDEST_TABLE: u64 = 4096;

/// Makes the table of descriptors as large as it can become. It never shrinks, and its
/// size (`FDSize`, proc_pid_status(5)) would tell the highest number that a tenant had.
fn widen_descriptor_table() -> io::Result<()> {
    if leaves_out("descriptors:table-size") {
        return Ok(());
    }
    // SAFETY: writes one struct (getrlimit(2)).
    let limit = unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        limit.rlim_cur
    };
    let highest = limit.min(WIDEST_TABLE).saturating_sub(1) as RawFd;
    // SAFETY: nothing is open above those that were placed.
    let placed = unsafe { libc::dup2(0, highest) };
    if placed < 0 {
        return Err(io::Error::last_os_error());
    }
    if placed > 0 {
        // SAFETY: opened in the line above, and owned by nobody.
        drop(unsafe { OwnedFd::from_raw_fd(placed) });
    }
    Ok(())
}

/// Marks the ready point: the engine stops the worker here, takes its snapshot,
/// and every rewind returns it to here.
pub fn ready_point() {
    arch::park();
}

fn map_table(table: BorrowedFd<'_>, address: u64) -> io::Result<()> {
    // SAFETY: replaces the room that the engine reserved in the template for
    // nothing else.
    let at = unsafe {
        libc::mmap(
            address as *mut libc::c_void,
            TABLE_BYTES as usize,
            libc::PROT_READ,
            libc::MAP_SHARED | libc::MAP_FIXED,
            table.as_raw_fd(),
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn duplicate_at(descriptor: BorrowedFd<'_>, lowest: RawFd) -> io::Result<OwnedFd> {
    let number = fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(lowest))?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
