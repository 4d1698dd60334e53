//! What no restore can beat: two context switches on one core, a copy of the pages that
//! the function changed, and one look for them.
//!
//! None of it is the engine's doing. The switches are a byte to a process that does nothing
//! but send one back. The copy is memcpy(3), within one process, of as many pages as
//! differed after a call from what they are after the rewind, at the same distances from one
//! another: from a memfd into what was written of a private mapping of it, as a worker's
//! pages are. The look is `PAGEMAP_SCAN` (or the pagemap file, before Linux 6.7) of the
//! worker's private writable mappings, those that touch in one call.
//!
//! It is measured after a turn, when the core's caches are as a turn leaves them.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use refunction_snapshot::yardstick::PageCopy;
use refunction_snapshot::{PAGE, PageScanner, Scan, Span};

use crate::Failure;
use crate::stage::Stage;

/// Starts the process that answers each byte.
pub const FLAG: &str = "--as-peer";

/// Turns before the one whose pages are looked at: what a first one changes is more.
const TURNS_BEFORE: usize = 20;

/// Answers each byte until there are no more.
pub(crate) fn play() -> Result<(), Failure> {
    let (mut bytes, mut answers) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut byte = [0];
    while bytes.read(&mut byte)? == 1 {
        answers.write_all(&byte)?;
        answers.flush()?;
    }
    Ok(())
}

/// The floor of one worker's restores.
pub struct Floor {
    peer: Peer,
    copy: Copying,
    scan: Scanning,
}

/// Its parts, each measured once.
#[derive(Debug, Clone, Copy)]
pub struct Parts {
    /// To another process and back.
    pub switches: Duration,
    /// Copying the changed pages.
    pub copy: Duration,
    /// Looking for them.
    pub scan: Duration,
}

impl Parts {
    /// The floor.
    #[must_use]
    pub fn whole(&self) -> Duration {
        self.switches + self.copy + self.scan
    }

    /// Each by its name.
    #[must_use]
    pub fn named(&self) -> [(&'static str, Duration); 3] {
        [
            ("switches", self.switches),
            ("copy", self.copy),
            ("scan", self.scan),
        ]
    }
}

impl Floor {
    /// Finds out what this stage's worker changes in a turn.
    ///
    /// # Errors
    /// The worker cannot do its turns, or be looked at.
    pub fn of(stage: &mut Stage) -> Result<Self, Failure> {
        for _ in 0..TURNS_BEFORE {
            stage.turn(0)?;
        }
        let worker = stage.worker().ok_or("there is no worker")?;
        let ranges = writable(worker)?;
        let changed = stage.changed_pages(&ranges)?;
        Ok(Self {
            peer: Peer::start()?,
            copy: Copying::of(&ranges, &changed)?,
            scan: Scanning {
                pagemap: File::open(format!("/proc/{worker}/pagemap"))?,
                scanner: PageScanner::new(Scan::Auto)?,
                ranges,
                found: Vec::new(),
            },
        })
    }

    /// How many pages the function changed.
    #[must_use]
    pub fn changed_pages(&self) -> u64 {
        self.copy.pages
    }

    /// Measures each part once. The worker must do nothing meanwhile.
    ///
    /// # Errors
    /// The peer, or the worker, is gone.
    pub fn measure(&mut self) -> Result<Parts, Failure> {
        Ok(Parts {
            copy: self.copy.measure(),
            scan: self.scan.measure()?,
            switches: self.peer.measure()?,
        })
    }
}

/// A process on one core with this one.
struct Peer {
    process: Child,
    bytes: Option<ChildStdin>,
    answers: ChildStdout,
    core: CpuSet,
}

impl Peer {
    fn start() -> Result<Self, Failure> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let first = (0..CpuSet::count())
            .find(|number| allowed.is_set(*number).unwrap_or(false))
            .ok_or("there is no processor")?;
        let mut core = CpuSet::new();
        core.set(first)?;
        let mut process = Command::new(std::env::current_exe()?)
            .arg(FLAG)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        sched_setaffinity(Pid::from_raw(process.id().cast_signed()), &core)?;
        let bytes = process.stdin.take();
        let answers = process.stdout.take().ok_or("the peer has no pipe")?;
        Ok(Self {
            process,
            bytes,
            answers,
            core,
        })
    }

    fn measure(&mut self) -> Result<Duration, Failure> {
        let me = Pid::from_raw(0);
        let allowed = sched_getaffinity(me)?;
        sched_setaffinity(me, &self.core)?;
        let bytes = self.bytes.as_mut().ok_or("the peer was stopped")?;
        let mut byte = [1];
        let began = Instant::now();
        bytes.write_all(&byte)?;
        self.answers.read_exact(&mut byte)?;
        let took = began.elapsed();
        sched_setaffinity(me, &allowed)?;
        Ok(took)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The end of its bytes ends it.
        self.bytes = None;
        let _ = self.process.wait();
    }
}

/// The same pages of two mappings of one memfd, of as many bytes as all ranges together.
struct Copying {
    copy: PageCopy,
    pages: u64,
}

impl Copying {
    fn of(ranges: &[Span], changed: &[u64]) -> Result<Self, Failure> {
        let length: u64 = ranges.iter().map(|range| range.len()).sum();
        let length = NonZeroUsize::new(usize::try_from(length)?)
            .ok_or("the worker has no writable mappings")?;
        let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
        let mut begins = 0;
        for range in ranges {
            for page in changed.iter().filter(|page| range.contains(**page)) {
                let at = begins + page - range.start;
                let run = usize::try_from(at)?..usize::try_from(at + PAGE)?;
                match runs.last_mut() {
                    Some(last) if last.end == run.start => last.end = run.end,
                    _ => runs.push(run),
                }
            }
            begins += range.len();
        }
        Ok(Self {
            copy: PageCopy::of(length, runs)?,
            pages: changed.len() as u64,
        })
    }

    fn measure(&mut self) -> Duration {
        let began = Instant::now();
        self.copy.copy();
        began.elapsed()
    }
}

struct Scanning {
    pagemap: File,
    scanner: PageScanner,
    ranges: Vec<Span>,
    found: Vec<Span>,
}

impl Scanning {
    fn measure(&mut self) -> Result<Duration, Failure> {
        self.found.clear();
        let began = Instant::now();
        for range in &self.ranges {
            self.scanner.scan(&self.pagemap, *range, &mut self.found)?;
        }
        Ok(began.elapsed())
    }
}

/// The private writable mappings of a process, those that touch in one.
fn writable(process: Pid) -> Result<Vec<Span>, Failure> {
    let mut ranges: Vec<Span> = Vec::new();
    for line in std::fs::read_to_string(format!("/proc/{process}/maps"))?.lines() {
        let (addresses, rest) = line.split_once(' ').ok_or("a mapping without rights")?;
        let (start, end) = addresses.split_once('-').ok_or("a mapping without end")?;
        let rights = rest.as_bytes();
        if rights.get(1) != Some(&b'w') || rights.get(3) != Some(&b'p') {
            continue;
        }
        let (start, end) = (
            u64::from_str_radix(start, 16)?,
            u64::from_str_radix(end, 16)?,
        );
        match ranges.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => ranges.push(Span::new(start, end)),
        }
    }
    Ok(ranges)
}
