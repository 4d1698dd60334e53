//! Every thread and process that the engine follows, what each is doing, and what
//! they did that matters for a rewind.
//!
//! A worker and all that it starts are attached from birth (ptrace(2), the
//! `TRACECLONE`, `TRACEFORK`, `TRACEVFORK` options), so no thread and no daemon
//! gets away: a new task starts stopped, and runs only when it is let go here.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, geteuid};

use crate::ptrace::{self, PtraceError};
use crate::row::{Row, Taint};
use crate::sabotage::leaves_out;
use crate::sleeper::Sleeper;
use crate::syscalls::{self, Note};
use crate::wait::{self, Change};

/// How long a stop, a fork or a death may take before the worker is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many changes are taken in before the caller gets to look at something else.
const AT_ONCE: usize = 256;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// Something that happened while nobody was waiting for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// A worker's process is gone.
    WorkerEnded {
        /// The worker.
        worker: Pid,
        /// How.
        end: End,
    },
    /// A stop signal stopped a worker.
    WorkerStopped {
        /// The worker.
        worker: Pid,
        /// Which signal.
        signal: i32,
    },
    /// A worker runs another program now.
    WorkerExecuted {
        /// The worker.
        worker: Pid,
    },
    /// A template is gone; its workers live on but have no successors.
    TemplateEnded {
        /// The template.
        template: Pid,
        /// How.
        end: End,
    },
    /// A child that the engine does not follow ended: an orphan, mostly.
    Reaped {
        /// Which.
        pid: Pid,
        /// How.
        end: End,
    },
}

/// A system call that the filter reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Recorded {
    pub(crate) number: i64,
    pub(crate) arguments: [u64; 2],
    /// True if a thread of the worker made it, not a process that it started.
    pub(crate) by_worker: bool,
}

/// Kinds of recorded calls kept for one worker; more are refused as they are.
const RECORDED_KINDS: usize = 64;

/// What noted calls, and signals that came, may have changed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Noted {
    /// Dispositions of these signals, a bit each, from 1 on.
    dispositions: u64,
    /// The same of processes that it started.
    of_others: u64,
    /// Some of which have dispositions in common with it.
    shares_dispositions: bool,
    pub(crate) limits: bool,
    pub(crate) timers: bool,
    pub(crate) thread_signals: bool,
    pub(crate) locks: bool,
    pub(crate) standing: bool,
    pub(crate) attributes: bool,
    pub(crate) descriptors: bool,
}

impl Noted {
    /// This signal's disposition; what is no signal has none.
    fn disposition(&mut self, signal: u64, is_own: bool) {
        let of_whom = match is_own {
            true => &mut self.dispositions,
            false => &mut self.of_others,
        };
        if (1..=64).contains(&signal) {
            *of_whom |= 1 << (signal - 1);
        }
    }

    /// Those of the worker that may be other than they were, a bit each, from 1 on.
    pub(crate) fn dispositions(&self) -> u64 {
        match self.shares_dispositions {
            true => self.dispositions | self.of_others,
            false => self.dispositions,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) recorded: BTreeSet<Recorded>,
    pub(crate) noted: Noted,
    /// Processes that the worker itself started.
    pub(crate) children: u32,
    /// Signals that it took while it was still booting.
    pub(crate) boot_signals: BTreeSet<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Runs; stops are handled and ended at once.
    Free,
    /// Whatever stops stays stopped, and is to be asked to.
    Held,
    /// Runs until this thread meets a breakpoint.
    UntilTrap(Pid),
    /// This thread executes one instruction.
    Step(Pid),
    /// Several threads run, each until it meets a breakpoint.
    UntilTraps,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Loads its runtime; what it starts is its own affair.
    Booting,
    /// Frozen; what it starts is a worker.
    Template,
    Worker,
}

/// A template or a worker, by its main process.
struct Subject {
    mode: Mode,
    kind: Kind,
    evidence: Evidence,
    /// Whose processes are its own, if none of another subject's are of that user.
    user: Option<Uid>,
}

struct Task {
    /// The main process of the template or worker to which it belongs.
    subject: Pid,
    /// Its own process (thread group).
    process: Pid,
    stopped: Option<Change>,
    /// It is a thread of the snapshot: whatever else has its number is another.
    is_of_snapshot: bool,
    /// It was sent to its end; whatever stops it on the way there is passed over.
    is_ending: bool,
    /// It waited at the snapshot, and may be left to.
    sleeper: Option<Sleeper>,
}

impl Task {
    fn is_armed(&self) -> bool {
        self.sleeper.as_ref().is_some_and(|it| it.is_armed)
    }

    /// True if it executes nothing until it is let go.
    fn is_still(&self) -> bool {
        self.stopped.is_some() || self.is_armed()
    }

    fn disarm(&mut self) -> bool {
        let sleeper = self.sleeper.as_mut();
        sleeper.is_some_and(|it| std::mem::take(&mut it.is_armed))
    }
}

/// A wait for a traced process came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    #[error("{doing} took longer than {} s", PATIENCE.as_secs())]
    TimedOut { doing: &'static str },
    #[error("process {pid} ended ({end:?}) during {doing}")]
    Ended {
        pid: Pid,
        end: End,
        doing: &'static str,
    },
    #[error(transparent)]
    Ptrace(#[from] PtraceError),
}

/// What stopping everything found.
pub(crate) struct Held {
    pub(crate) processes_ended: u32,
    /// Threads beside the main one that are not of the snapshot.
    pub(crate) threads: Vec<Pid>,
    /// Those that are.
    pub(crate) threads_of_snapshot: Vec<Pid>,
}

/// The engine's view of all it follows. Lives on one thread: ptrace requests count
/// only from the thread that attached.
pub(crate) struct Tracer {
    tasks: HashMap<Pid, Task>,
    subjects: HashMap<Pid, Subject>,
    /// Stops of tasks whose creation was not reported yet.
    unclaimed: HashMap<Pid, Change>,
    news: VecDeque<News>,
    /// How many changes went into the news since there last was none.
    taken_in: usize,
    /// It waited for some change since all were taken in: that used up signals of others.
    has_waited: bool,
    born: Vec<Pid>,
    /// Lists this process's children, where the kernel does (proc_tid_children(5)).
    children: Option<File>,
}

impl Tracer {
    pub(crate) fn new() -> io::Result<Self> {
        wait::block_sigchld()?;
        let me = Pid::this();
        Ok(Self {
            tasks: HashMap::new(),
            subjects: HashMap::new(),
            unclaimed: HashMap::new(),
            news: VecDeque::new(),
            taken_in: 0,
            has_waited: false,
            born: Vec::new(),
            children: File::open(format!("/proc/{me}/task/{me}/children")).ok(),
        })
    }

    /// Attaches to a child that is to become a template.
    pub(crate) fn adopt_template(&mut self, pid: Pid) -> Result<(), PtraceError> {
        ptrace::seize(pid)?;
        self.insert_subject(pid, Mode::UntilTrap(pid), Kind::Booting);
        Ok(())
    }

    /// Attaches to a child that is to become a worker where it stands.
    pub(crate) fn adopt_runtime(&mut self, pid: Pid) -> Result<(), PtraceError> {
        ptrace::seize(pid)?;
        self.insert_subject(pid, Mode::Free, Kind::Booting);
        Ok(())
    }

    fn insert_subject(&mut self, pid: Pid, mode: Mode, kind: Kind) {
        self.subjects.insert(
            pid,
            Subject {
                mode,
                kind,
                evidence: Evidence::default(),
                user: None,
            },
        );
        self.tasks.insert(
            pid,
            Task {
                subject: pid,
                process: pid,
                stopped: None,
                is_of_snapshot: false,
                is_ending: false,
                sleeper: None,
            },
        );
    }

    /// From now on what this frozen process starts are workers.
    pub(crate) fn is_frozen(&mut self, template: Pid) {
        if let Some(subject) = self.subjects.get_mut(&template) {
            subject.kind = Kind::Template;
            subject.user = Some(geteuid());
        }
    }

    /// Lets this newborn of a template's go on until it is to be frozen as one itself.
    pub(crate) fn boots(&mut self, newborn: Pid) -> Result<(), TraceError> {
        if let Some(subject) = self.subjects.get_mut(&newborn) {
            subject.kind = Kind::Booting;
            subject.user = Some(geteuid());
        }
        self.set_mode(newborn, Mode::UntilTrap(newborn));
        self.let_go(newborn)
    }

    /// This worker has become this user.
    pub(crate) fn is_of_user(&mut self, worker: Pid, user: Uid) {
        if let Some(subject) = self.subjects.get_mut(&worker) {
            subject.user = Some(user);
        }
    }

    /// From now on this process, with the threads that it has, is a worker. These of them
    /// may be left asleep.
    pub(crate) fn is_snapshotted(&mut self, runtime: Pid, sleepers: Vec<(Pid, Sleeper)>) {
        if let Some(subject) = self.subjects.get_mut(&runtime) {
            subject.kind = Kind::Worker;
        }
        for task in self.tasks.values_mut() {
            task.is_of_snapshot |= task.subject == runtime;
        }
        for (tid, sleeper) in sleepers {
            if let Some(task) = self.tasks.get_mut(&tid) {
                task.sleeper = Some(sleeper);
            }
        }
    }

    /// True if this held thread was not stopped, because it sleeps where it did at the
    /// snapshot.
    pub(crate) fn is_asleep(&self, tid: Pid) -> bool {
        self.tasks.get(&tid).is_some_and(Task::is_armed)
    }

    /// Stops threads of a held worker that were left asleep.
    pub(crate) fn wake(&mut self, worker: Pid, tids: &[Pid]) -> Result<(), TraceError> {
        self.set_mode(worker, Mode::Held);
        for tid in tids {
            if self.tasks.get_mut(tid).is_some_and(Task::disarm) {
                self.ask_to_stop(*tid);
            }
        }
        self.wait_until_stopped("stopping the worker", worker, tids)
    }

    /// Takes in what has happened, and hands out one piece of news.
    ///
    /// Comes to `None` also where processes start and end without pause: then a
    /// SIGCHLD is left pending, for whoever calls this whenever there is one.
    pub(crate) fn poll(&mut self) -> Option<News> {
        while self.taken_in < AT_ONCE
            && let Some((pid, change)) = wait::poll()
        {
            self.take_in(pid, change);
            self.taken_in += 1;
        }
        let news = self.news.pop_front();
        if news.is_none() && std::mem::take(&mut self.taken_in) == AT_ONCE {
            wait::come_back();
        }
        news
    }

    /// Has SIGCHLD come once more, if there may be changes that have none any more.
    pub(crate) fn remind(&mut self) {
        if std::mem::take(&mut self.has_waited) {
            wait::come_back();
        }
    }

    /// What this worker did since its evidence was last taken.
    pub(crate) fn take_evidence(&mut self, worker: Pid) -> Evidence {
        self.subjects
            .get_mut(&worker)
            .map(|subject| std::mem::take(&mut subject.evidence))
            .unwrap_or_default()
    }

    /// True if this worker may have let others write to what it owns, since its evidence
    /// was last taken.
    pub(crate) fn has_opened(&self, worker: Pid) -> bool {
        self.subjects.get(&worker).is_some_and(|subject| {
            let recorded = &subject.evidence.recorded;
            // As many as are kept: there may have been others.
            recorded.len() >= RECORDED_KINDS || syscalls::opens(recorded)
        })
    }

    /// Waits until a template forks; the newborn is stopped at its first
    /// instruction.
    pub(crate) fn wait_for_birth(&mut self, template: Pid) -> Result<Pid, TraceError> {
        let doing = "forking a worker";
        self.wait_until(doing, template, |tracer| {
            let newborn = *tracer.born.first()?;
            tracer
                .tasks
                .get(&newborn)
                .is_some_and(|task| task.stopped.is_some())
                .then(|| tracer.born.remove(0))
        })
    }

    /// Lets a stopped thread go, and waits until it stands at a breakpoint.
    pub(crate) fn run_until_trap(
        &mut self,
        tid: Pid,
        doing: &'static str,
    ) -> Result<(), TraceError> {
        self.set_mode_of(tid, Mode::UntilTrap(tid));
        self.let_go(tid)?;
        self.wait_for_trap(tid, doing)
    }

    /// Lets some stopped threads of a subject go, and waits until each stands at a
    /// breakpoint.
    pub(crate) fn run_until_traps(
        &mut self,
        subject: Pid,
        tids: &[Pid],
        doing: &'static str,
    ) -> Result<(), TraceError> {
        self.set_mode(subject, Mode::UntilTraps);
        for tid in tids {
            self.let_go(*tid)?;
        }
        self.wait_until_stopped(doing, subject, tids)
    }

    fn wait_until_stopped(
        &mut self,
        doing: &'static str,
        subject: Pid,
        tids: &[Pid],
    ) -> Result<(), TraceError> {
        self.wait_until(doing, subject, |tracer| {
            let is_stopped = |tid| tracer.tasks.get(tid).map(|task| task.stopped.is_some());
            // One that is gone is missed by whoever asks for its registers.
            let all = tids.iter().all(|tid| is_stopped(tid).unwrap_or(true));
            all.then_some(())
        })
    }

    /// Waits for the breakpoint of a thread that is already on its way there.
    pub(crate) fn wait_for_trap(
        &mut self,
        tid: Pid,
        doing: &'static str,
    ) -> Result<(), TraceError> {
        self.wait_until(doing, tid, |tracer| {
            tracer.tasks.get(&tid)?.stopped.map(drop)
        })
    }

    /// Executes one instruction of a stopped thread.
    pub(crate) fn step(&mut self, tid: Pid, doing: &'static str) -> Result<(), TraceError> {
        self.set_mode_of(tid, Mode::Step(tid));
        if let Some(task) = self.tasks.get_mut(&tid) {
            task.stopped = None;
        }
        ptrace::step(tid)?;
        self.wait_for_trap(tid, doing)
    }

    /// Lets every stopped thread of a subject go, for good.
    pub(crate) fn release(&mut self, subject: Pid) -> Result<(), TraceError> {
        self.set_mode(subject, Mode::Free);
        let stopped: Vec<Pid> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.subject == subject && task.stopped.is_some())
            .map(|(tid, _)| *tid)
            .collect();
        stopped.into_iter().try_for_each(|tid| {
            let sleeper = self.tasks.get_mut(&tid).and_then(|it| it.sleeper.as_mut());
            let Some(sleeper) = sleeper else {
                return self.let_go(tid);
            };
            sleeper.is_armed = true;
            if let Some(task) = self.tasks.get_mut(&tid) {
                task.stopped = None;
            }
            Ok(ptrace::step(tid)?)
        })
    }

    fn let_go(&mut self, tid: Pid) -> Result<(), TraceError> {
        if let Some(task) = self.tasks.get_mut(&tid) {
            task.stopped = None;
        }
        Ok(ptrace::resume(tid, 0)?)
    }

    fn set_mode_of(&mut self, tid: Pid, mode: Mode) {
        if let Some(task) = self.tasks.get(&tid) {
            self.set_mode(task.subject, mode);
        }
    }

    fn set_mode(&mut self, subject: Pid, mode: Mode) {
        if let Some(subject) = self.subjects.get_mut(&subject) {
            subject.mode = mode;
        }
    }

    /// Stops every thread of a worker and kills every process that it started.
    pub(crate) fn hold(&mut self, worker: Pid) -> Result<Held, Taint> {
        let failed = |error: TraceError| Taint::new(Row::Worker, error.to_string());
        if !self.subjects.contains_key(&worker) {
            return Err(Taint::new(Row::Worker, "it is gone"));
        }
        self.set_mode(worker, Mode::Held);
        let mut processes_ended = BTreeSet::new();
        let mine: Vec<(Pid, Pid, bool)> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.subject == worker)
            .map(|(tid, task)| (*tid, task.process, task.is_still()))
            .collect();
        for (tid, process, is_still) in mine {
            if process != worker {
                processes_ended.insert(process);
            } else if !is_still {
                self.ask_to_stop(tid);
            }
        }
        for process in &processes_ended {
            if !leaves_out("children:kill") {
                end(*process);
            }
        }
        // A fork that was under way shows up only now; `take_in` kills it.
        self.wait_until("stopping the worker", worker, |tracer| {
            tracer
                .tasks
                .values()
                .filter(|task| task.subject == worker)
                .all(|task| task.process == worker && task.is_still())
                .then_some(())
        })
        .map_err(failed)?;
        self.wake_who_moves(worker).map_err(failed)?;
        let started_any = self
            .subjects
            .get(&worker)
            .is_some_and(|subject| subject.evidence.children > 0);
        if started_any {
            self.end_strays(worker).map_err(failed)?;
            // Those whose parent died too are ours to reap once more, by now.
            while let Some((pid, change)) = wait::poll() {
                self.take_in(pid, change);
            }
        }
        let (mut threads, mut threads_of_snapshot) = (Vec::new(), Vec::new());
        for (tid, task) in &self.tasks {
            if task.subject != worker {
                continue;
            }
            if let Some(Change::GroupStop(signal)) = task.stopped
                && !leaves_out("signals:stopped-when-held")
            {
                return Err(Taint::new(
                    Row::Signals,
                    format!("stopped by signal {signal}"),
                ));
            }
            if task.is_of_snapshot && *tid != worker {
                threads_of_snapshot.push(*tid);
            } else if *tid != worker {
                threads.push(*tid);
            }
        }
        Ok(Held {
            processes_ended: processes_ended.len() as u32,
            threads,
            threads_of_snapshot,
        })
    }

    /// Stops threads that were to be left asleep but are not. By now nobody runs who
    /// could wake one later; but where threads are still to be ended, their ends may
    /// (set_tid_address(2), and lists of locks held), and until a timer is disarmed, its
    /// signals.
    fn wake_who_moves(&mut self, worker: Pid) -> Result<(), TraceError> {
        let noted = self.subjects.get(&worker).map(|it| it.evidence.noted);
        let has_timers = noted.is_some_and(|it| it.timers);
        let mine = || self.tasks.iter().filter(|(_, it)| it.subject == worker);
        let others = mine().any(|(tid, task)| !task.is_of_snapshot && *tid != worker);
        let moving: Vec<Pid> = mine()
            .filter(|(_, task)| {
                let sleeper = task.sleeper.as_ref().filter(|it| it.is_armed);
                sleeper.is_some_and(|it| others || has_timers || !it.is_asleep())
                    && !leaves_out("sleepers:moving")
            })
            .map(|(tid, _)| *tid)
            .collect();
        self.wake(worker, &moving)
    }

    /// Lets one held thread run to its end, to which its registers lead.
    pub(crate) fn end_thread(&mut self, worker: Pid, tid: Pid) -> Result<(), TraceError> {
        if let Some(task) = self.tasks.get_mut(&tid) {
            // A newborn may owe two stops: its first, and the one it was asked for.
            task.is_ending = true;
        }
        ptrace::leave_critical_section(tid)?;
        self.let_go(tid)?;
        self.wait_until("ending a thread", worker, |tracer| {
            (!tracer.tasks.contains_key(&tid)).then_some(())
        })
    }

    /// True if nothing of this worker executes anything until it is let go or killed: all
    /// that there is of it was stopped, or it ended and left nobody.
    pub(crate) fn is_still(&self, worker: Pid) -> bool {
        let Some(subject) = self.subjects.get(&worker) else {
            return false;
        };
        let mut mine = self.tasks.values().filter(|task| task.subject == worker);
        let is_held = |task: &Task| task.process == worker && task.stopped.is_some();
        match subject.mode {
            Mode::Held => mine.all(is_held),
            _ => mine.next().is_none(),
        }
    }

    /// Kills a worker without waiting for its end, which [`discard`](Self::discard) does.
    pub(crate) fn kill(&mut self, worker: Pid) {
        let mine = self.tasks.values().filter(|task| task.subject == worker);
        let processes: BTreeSet<Pid> = mine.map(|task| task.process).collect();
        processes.into_iter().for_each(end);
    }

    /// Kills a worker or template with everything it started, and reaps it all.
    /// Its end is not news.
    pub(crate) fn discard(&mut self, subject: Pid) -> Result<(), TraceError> {
        let deadline = Instant::now() + PATIENCE;
        self.set_mode(subject, Mode::Held);
        loop {
            let processes: BTreeSet<Pid> = self
                .tasks
                .values()
                .filter(|task| task.subject == subject)
                .map(|task| task.process)
                .filter(|process| *process == subject || !leaves_out("children:kill-at-discard"))
                .collect();
            if processes.is_empty() {
                break;
            }
            for process in processes {
                end(process);
            }
            self.has_waited = true;
            let Some((pid, change)) = wait::next(deadline) else {
                return Err(TraceError::TimedOut {
                    doing: "killing a worker",
                });
            };
            self.take_in(pid, change);
        }
        // The subject itself may have been in the middle of its first fork.
        self.end_strays(subject)?;
        self.subjects.remove(&subject);
        self.news.retain(|news| match news {
            News::WorkerEnded { worker, .. }
            | News::WorkerStopped { worker, .. }
            | News::WorkerExecuted { worker } => *worker != subject,
            News::TemplateEnded { template, .. } => *template != subject,
            News::Reaped { .. } => true,
        });
        Ok(())
    }

    /// This process's children, as the kernel lists them; none where it does not.
    fn list_children(&self) -> String {
        let mut text = Vec::new();
        let Some(children) = &self.children else {
            return String::new();
        };
        loop {
            let filled = text.len();
            text.resize(filled + 1024, 0);
            let got = children.read_at(&mut text[filled..], filled as u64);
            let got = got.unwrap_or_default();
            text.truncate(filled + got);
            if got == 0 {
                return String::from_utf8(text).unwrap_or_default();
            }
        }
    }

    /// Ends processes that nobody told of: one that is killed in the middle of a
    /// fork leaves a child that is traced and stopped, but never its news. By now
    /// whoever could tell has told, and such a child has become ours. Of another user it is
    /// another subject's, which may still tell.
    fn end_strays(&mut self, subject: Pid) -> Result<(), TraceError> {
        let me = Pid::this();
        let user = self.subjects.get(&subject).and_then(|it| it.user);
        if leaves_out("children:strays") {
            return Ok(());
        }
        let strays: BTreeSet<Pid> = self
            .list_children()
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok().map(Pid::from_raw))
            .filter(|pid| !self.tasks.contains_key(pid) && is_stray(*pid, me, user))
            .collect();
        for stray in &strays {
            end(*stray);
        }
        let deadline = Instant::now() + PATIENCE;
        // Reaped here, so until then the number is its own.
        while strays
            .iter()
            .any(|stray| std::fs::exists(format!("/proc/{stray}")).unwrap_or(false))
        {
            self.has_waited = true;
            let Some((pid, change)) = wait::next(deadline) else {
                return Err(TraceError::TimedOut {
                    doing: "killing a worker's processes",
                });
            };
            self.take_in(pid, change);
        }
        Ok(())
    }

    fn wait_until<T>(
        &mut self,
        doing: &'static str,
        subject: Pid,
        mut done: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, TraceError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(value) = done(self) {
                return Ok(value);
            }
            if !self.tasks.contains_key(&subject) {
                return Err(TraceError::Ended {
                    pid: subject,
                    end: self.end_of(subject),
                    doing,
                });
            }
            self.has_waited = true;
            let Some((pid, change)) = wait::next(deadline) else {
                return Err(TraceError::TimedOut { doing });
            };
            self.take_in(pid, change);
        }
    }

    fn end_of(&self, subject: Pid) -> End {
        self.news
            .iter()
            .rev()
            .find_map(|news| match news {
                News::WorkerEnded { worker: pid, end }
                | News::TemplateEnded { template: pid, end }
                    if *pid == subject =>
                {
                    Some(*end)
                }
                _ => None,
            })
            .unwrap_or(End::Killed(libc::SIGKILL))
    }

    fn take_in(&mut self, tid: Pid, change: Change) {
        if let Change::Exited(_) | Change::Killed(_) = change {
            self.take_in_end(tid, change);
            return;
        }
        let Some(task) = self.tasks.get_mut(&tid) else {
            // A thread of a process that exec'd away from under its own id, or a
            // newborn whose parent's event is still to come.
            self.unclaimed.insert(tid, change);
            return;
        };
        let (owner, process) = (task.subject, task.process);
        if task.is_ending {
            self.go_on(tid, 0);
            return;
        }
        let has_woken_up = task.disarm()
            && change == Change::Signal(libc::SIGTRAP)
            && ptrace::is_from_kernel(tid).unwrap_or(false);
        let note = match change {
            Change::Recorded => ptrace::event_message(tid).ok().and_then(Note::of),
            _ => None,
        };
        if let Some(note @ (Note::Standing | Note::Limits)) = note {
            // It may be another's that the same user owns.
            for subject in self.subjects.values_mut() {
                let noted = &mut subject.evidence.noted;
                noted.standing |= note == Note::Standing;
                noted.limits |= note == Note::Limits;
            }
        }
        let Some(subject) = self.subjects.get_mut(&owner) else {
            return;
        };
        let mode = subject.mode;
        if let Change::Signal(signal) = change
            && !is_breakpoint(mode, signal)
            && !leaves_out("signals:taken")
        {
            // Its handler may have been for once (`SA_RESETHAND`), and the kernel takes
            // away those of faults that are blocked.
            let noted = &mut subject.evidence.noted;
            noted.disposition(u64::from(signal.unsigned_abs()), process == owner);
        }
        match change {
            Change::Created => self.take_in_birth(tid, owner, process),
            Change::Recorded => {
                let noted = &mut subject.evidence.noted;
                match note {
                    Some(Note::Disposition) => {
                        if let Ok(registers) = ptrace::registers(tid) {
                            let (_, arguments) = registers.system_call();
                            noted.disposition(arguments[0], process == owner);
                        }
                    }
                    Some(Note::Timers) => noted.timers = true,
                    Some(Note::ThreadSignals) => noted.thread_signals = true,
                    Some(Note::Locks) => noted.locks = true,
                    Some(Note::Attributes) => noted.attributes = true,
                    Some(Note::Descriptors) => noted.descriptors = true,
                    Some(Note::SharedDispositions) => noted.shares_dispositions = true,
                    Some(Note::Standing | Note::Limits) | None => {}
                }
                if note.is_none()
                    && subject.evidence.recorded.len() < RECORDED_KINDS
                    && let Ok(registers) = ptrace::registers(tid)
                {
                    let (number, args) = registers.system_call();
                    subject.evidence.recorded.insert(Recorded {
                        number,
                        arguments: [args[0], args[1]],
                        by_worker: process == owner,
                    });
                }
            }
            // The JVM provokes faults of its own while it boots, to learn what it runs on.
            Change::Signal(signal)
                if subject.kind == Kind::Booting
                    && !ptrace::is_own_fault(tid, signal).unwrap_or(false) =>
            {
                subject.evidence.boot_signals.insert(signal);
            }
            Change::Executed => {
                // Every other thread of the process vanished without a word, and
                // the one that called goes on under the process's id.
                self.tasks
                    .retain(|other, task| task.process != process || *other == tid);
                if process == owner
                    && subject.kind == Kind::Worker
                    && !leaves_out("exec:of-the-worker")
                {
                    self.news.push_back(News::WorkerExecuted { worker: owner });
                }
            }
            _ => {}
        }
        match (mode, change) {
            // It goes on with what it found out in its sleep; it is an ordinary thread now.
            (Mode::Free, _) if has_woken_up => self.go_on(tid, 0),
            // What it waited for may have been a time.
            (Mode::UntilTrap(_) | Mode::Step(_) | Mode::UntilTraps, _) if has_woken_up => {
                self.mark_stopped(tid, change);
            }
            (Mode::Held, Change::Interrupted | Change::GroupStop(_)) => {
                self.mark_stopped(tid, change);
            }
            (Mode::Held, _) => {
                // The registers of a thread that stands inside a system call are not
                // its own yet: it goes on to the way out, where the request to stop
                // catches it. A signal it was about to take is dropped: the handler
                // belongs to a tenant that is gone.
                self.ask_to_stop(tid);
                self.go_on(tid, 0);
            }
            (Mode::UntilTrap(running) | Mode::Step(running), Change::Signal(libc::SIGTRAP))
                if tid == running =>
            {
                self.mark_stopped(tid, change)
            }
            // The filter has the call told of before it is made: that is not its end.
            (Mode::Step(running), Change::Recorded) if tid == running => {
                // One that is gone is reported by wait.
                let _ = ptrace::step(tid);
            }
            (Mode::UntilTraps, Change::Signal(libc::SIGTRAP)) => self.mark_stopped(tid, change),
            // What stands on the way to a breakpoint is ours. This signal cannot be
            // blocked meanwhile, and let through it would stop the way there.
            (
                Mode::UntilTrap(_) | Mode::Step(_) | Mode::UntilTraps,
                Change::Signal(libc::SIGSTOP),
            ) => self.go_on(tid, 0),
            (_, Change::Signal(signal)) => self.go_on(tid, signal),
            (_, Change::GroupStop(signal)) => {
                if process == owner && tid == owner && !leaves_out("signals:stopped-meanwhile") {
                    self.news.push_back(News::WorkerStopped {
                        worker: owner,
                        signal,
                    });
                }
                // A thread that dies meanwhile is reported by wait.
                let _ = ptrace::listen(tid);
            }
            _ => self.go_on(tid, 0),
        }
    }

    fn take_in_end(&mut self, tid: Pid, change: Change) {
        let end = match change {
            Change::Exited(status) => End::Exited(status),
            Change::Killed(signal) => End::Killed(signal),
            _ => return,
        };
        self.unclaimed.remove(&tid);
        let Some(task) = self.tasks.remove(&tid) else {
            self.news.push_back(News::Reaped { pid: tid, end });
            return;
        };
        if tid == task.subject {
            self.news
                .push_back(if self.kind(tid) == Some(Kind::Worker) {
                    News::WorkerEnded { worker: tid, end }
                } else {
                    News::TemplateEnded { template: tid, end }
                });
        }
    }

    fn take_in_birth(&mut self, parent: Pid, owner: Pid, parent_process: Pid) {
        let Ok(message) = ptrace::event_message(parent) else {
            return;
        };
        let Ok(newborn) = i32::try_from(message).map(Pid::from_raw) else {
            return;
        };
        let unclaimed = self.unclaimed.remove(&newborn);
        if self.kind(owner) == Some(Kind::Template) {
            self.insert_subject(newborn, Mode::Held, Kind::Worker);
            self.born.push(newborn);
        } else {
            let is_thread =
                std::fs::exists(format!("/proc/{parent_process}/task/{newborn}")).unwrap_or(false);
            let process = if is_thread { parent_process } else { newborn };
            self.tasks.insert(
                newborn,
                Task {
                    subject: owner,
                    process,
                    stopped: None,
                    is_of_snapshot: false,
                    is_ending: false,
                    sleeper: None,
                },
            );
            if let Some(subject) = self.subjects.get_mut(&owner) {
                if !is_thread && parent_process == owner {
                    subject.evidence.children += 1;
                }
                if !is_thread && subject.mode == Mode::Held && !leaves_out("children:kill-newborns")
                {
                    end(newborn);
                }
            }
        }
        if let Some(change) = unclaimed {
            self.take_in(newborn, change);
        }
    }

    fn kind(&self, subject: Pid) -> Option<Kind> {
        self.subjects.get(&subject).map(|subject| subject.kind)
    }

    fn mark_stopped(&mut self, tid: Pid, change: Change) {
        if let Some(task) = self.tasks.get_mut(&tid) {
            task.stopped = Some(change);
        }
    }

    fn ask_to_stop(&self, tid: Pid) {
        // Gone already: wait tells.
        let _ = ptrace::interrupt(tid);
    }

    fn go_on(&self, tid: Pid, signal: i32) {
        // Gone already: wait tells.
        let _ = ptrace::resume(tid, signal);
    }
}

fn end(process: Pid) {
    // ESRCH means that it ended by itself, which wait reports all the same.
    let _ = kill(process, Signal::SIGKILL);
}

/// True if that is how the stub says that it is done.
fn is_breakpoint(mode: Mode, signal: i32) -> bool {
    signal == libc::SIGTRAP && matches!(mode, Mode::UntilTrap(_) | Mode::Step(_) | Mode::UntilTraps)
}

/// True if this process is traced by this one, and is of this user, if that is known.
fn is_stray(process: Pid, tracer: Pid, user: Option<Uid>) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{process}/status")) else {
        return false;
    };
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        value.split_whitespace().next()?.parse::<u32>().ok()
    };
    field("TracerPid:") == Some(tracer.as_raw().unsigned_abs())
        && user.is_none_or(|user| field("Uid:") == Some(user.as_raw()))
}
