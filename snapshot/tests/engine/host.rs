//! The tracing side of a case.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::mem::forget;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Gid, Pid, Uid, pipe};
use refunction_snapshot::{
    Engine, EngineError, InPlace, News, Refused, Rewound, Scan, Template, Worker, unread_bytes,
};

use crate::{LAUNCH, TEMPLATE, cases, guest};

/// An engine and one worker.
pub struct Host {
    engine: Engine,
    /// What it is forked from; a worker in place has nothing.
    template: Option<Template>,
    worker: Option<Kept>,
    pipes: Option<(File, BufReader<File>)>,
}

enum Kept {
    Forked(Box<Worker>),
    InPlace(Box<InPlace>),
}

fn owner() -> (Uid, Gid) {
    let id = guest::id_under(Pid::this());
    (Uid::from_raw(id), Gid::from_raw(id))
}

/// How long anything may take before the case fails.
const PATIENCE: Duration = Duration::from_secs(20);

impl Host {
    pub fn start(scan: Scan) -> Self {
        Self::of_template(scan, TEMPLATE)
    }

    /// With a worker of the template that this argument has this program become.
    pub fn of_template(scan: Scan, which: &str) -> Self {
        let mut engine = Engine::new(scan).expect("engine").verifying(true);
        let (ours, theirs) = Engine::conversation().expect("conversation");
        #[expect(clippy::zombie_processes, reason = "the engine reaps it")]
        let child = Command::new(std::env::current_exe().expect("own path"))
            .arg(which)
            // Two pages of the stack's upper end hold nothing but this, wherever the
            // stack begins: a mutation drops the last one, and needs its frames.
            .env("PADDING", "x".repeat(8192))
            .stdin(Stdio::from(theirs))
            .spawn()
            .expect("template");
        let pid = Pid::from_raw(child.id().cast_signed());
        let booting = engine.adopt(pid, ours).expect("adopt");
        let deadline = Instant::now() + PATIENCE;
        while !is_readable(booting.socket()) {
            while engine.poll().is_some() {}
            assert!(Instant::now() < deadline, "the template does not boot");
        }
        let template = engine.freeze(booting).expect("freeze");
        // Orphans are this process's to reap.
        nix::sys::prctl::set_child_subreaper(true).expect("subreaper");
        let mut host = Self {
            engine,
            template: Some(template),
            worker: None,
            pipes: None,
        };
        host.fork();
        host
    }

    /// With a worker that is its own template, and has threads.
    pub fn start_in_place(scan: Scan) -> Self {
        Self::start_runtime(scan, "")
    }

    /// As [`start_in_place`](Self::start_in_place), of a runtime like `how`.
    pub fn start_runtime(scan: Scan, how: &str) -> Self {
        let engine = Engine::new(scan).expect("engine").verifying(true);
        nix::sys::prctl::set_child_subreaper(true).expect("subreaper");
        let mut host = Self {
            engine,
            template: None,
            worker: None,
            pipes: None,
        };
        host.boot(how).expect("a runtime");
        host
    }

    /// The same, without a second look at what was rewound.
    pub fn unverified(self) -> Self {
        Self {
            engine: self.engine.verifying(false),
            ..self
        }
    }

    /// Boots a runtime like `how`, and makes a worker of it.
    pub fn boot(&mut self, how: &str) -> Result<(), EngineError> {
        let (ours, theirs) = Engine::conversation().expect("conversation");
        #[expect(clippy::zombie_processes, reason = "the engine reaps it")]
        let child = Command::new(std::env::current_exe().expect("own path"))
            .args([LAUNCH, how])
            .env("PADDING", "x".repeat(8192))
            .stdin(Stdio::from(theirs))
            .spawn()
            .expect("launcher");
        let pid = Pid::from_raw(child.id().cast_signed());
        let (request_read, request_write) = pipe().expect("pipe");
        let (response_read, response_write) = pipe().expect("pipe");
        let (stderr_read, stderr_write) = pipe().expect("pipe");
        forget(stderr_read);
        nix::unistd::fchown(&stderr_write, Some(owner().0), Some(owner().1)).expect("chown");
        let descriptors = [
            request_read.as_fd(),
            response_write.as_fd(),
            stderr_write.as_fd(),
        ];
        let starting = self
            .engine
            .adopt_runtime(pid, ours, &descriptors)
            .expect("adopt");
        drop(response_write);
        let mut responses = BufReader::new(File::from(response_read));
        let deadline = Instant::now() + PATIENCE;
        while !is_readable(responses.get_ref().as_fd()) {
            while self.engine.poll().is_some() {}
            assert!(Instant::now() < deadline, "the runtime does not boot");
        }
        let mut ready = String::new();
        responses.read_line(&mut ready).expect("a word");
        let frozen = self.engine.freeze_in_place(starting, 0, owner())?;
        assert_eq!(ready, "ready\n");
        assert_eq!(frozen.description, b"guest");
        self.worker = Some(Kept::InPlace(Box::new(frozen)));
        self.pipes = Some((request_write.into(), responses));
        // It stands still until then.
        self.rewind().expect("let go");
        Ok(())
    }

    /// The worker, if it is its own template.
    pub fn in_place(&self) -> &InPlace {
        match &self.worker {
            Some(Kept::InPlace(worker)) => worker,
            _ => panic!("there is none in place"),
        }
    }

    fn fork(&mut self) {
        // New ones for each: a worker can change what its descriptors lead to.
        let (request_read, request_write) = pipe().expect("pipe");
        let (response_read, response_write) = pipe().expect("pipe");
        let (stderr_read, stderr_write) = pipe().expect("pipe");
        forget(stderr_read);
        nix::unistd::fchown(&stderr_write, Some(owner().0), Some(owner().1)).expect("chown");
        let descriptors = [
            request_read.as_fd(),
            response_write.as_fd(),
            stderr_write.as_fd(),
        ];
        let template = self.template.as_ref().expect("a template");
        let worker = self.engine.fork(template, &descriptors, owner());
        self.worker = Some(Kept::Forked(Box::new(worker.expect("fork"))));
        self.pipes = Some((request_write.into(), BufReader::new(response_read.into())));
    }

    pub fn worker(&self) -> &Worker {
        match &self.worker {
            Some(Kept::Forked(worker)) => worker,
            _ => panic!("there is none that was forked"),
        }
    }

    pub fn pid(&self) -> Pid {
        match self.worker.as_ref().expect("a worker") {
            Kept::Forked(worker) => worker.pid(),
            Kept::InPlace(worker) => worker.pid(),
        }
    }

    /// True if another worker comes from the same template.
    pub fn forks(&self) -> bool {
        self.template.is_some()
    }

    pub fn template_bytes(&self) -> u64 {
        self.template.as_ref().map_or(0, Template::bytes)
    }

    /// Kills the worker and has another come.
    pub fn replace_worker(&mut self) {
        if self.worker.is_some() {
            let pid = self.pid();
            match self.worker.take() {
                Some(Kept::Forked(worker)) => self.engine.discard(*worker),
                Some(Kept::InPlace(worker)) => self.engine.discard_in_place(*worker),
                None => Ok(()),
            }
            .expect("discarded");
            assert!(
                !fs::exists(format!("/proc/{pid}")).expect("proc"),
                "not reaped"
            );
        }
        if self.template.is_some() {
            self.fork();
        } else {
            self.boot("").expect("a runtime");
        }
    }

    /// Asks the worker to do something; what it answers.
    ///
    /// # Panics
    /// It does not answer.
    pub fn ask(&mut self, what: &str) -> String {
        let answer = self.ask_within(PATIENCE, what);
        answer.unwrap_or_else(|| panic!("no answer to {what}"))
    }

    /// As [`ask`](Self::ask), unless it takes longer.
    pub fn ask_within(&mut self, patience: Duration, what: &str) -> Option<String> {
        let (to_worker, _) = self.pipes.as_mut().expect("pipes");
        if let Err(error) = writeln!(to_worker, "{what}") {
            // A program may end its own worker; whoever asked wants "0".
            return Some(error.to_string());
        }
        let deadline = Instant::now() + patience;
        loop {
            // The engine must see to what the worker meets on its way.
            if let Some(end) = self.end_of_worker() {
                return Some(end);
            }
            let (_, from_worker) = self.pipes.as_mut().expect("pipes");
            if is_readable(from_worker.get_ref().as_fd()) {
                let mut answer = String::new();
                from_worker.read_line(&mut answer).expect("answer");
                return Some(answer.trim_end().to_string());
            }
            if Instant::now() > deadline {
                return None;
            }
        }
    }

    /// What was reaped besides the worker, as far as the engine hears of it at once.
    pub fn reaped(&mut self) -> Vec<Pid> {
        let mut reaped = Vec::new();
        while let Some(news) = self.engine.poll() {
            if let News::Reaped { pid, .. } = news {
                reaped.push(pid);
            }
        }
        reaped
    }

    fn end_of_worker(&mut self) -> Option<String> {
        let mut end = None;
        while let Some(news) = self.engine.poll() {
            if !matches!(news, News::Reaped { .. } | News::TemplateEnded { .. }) {
                end = Some(format!("{news:?}"));
            }
        }
        end
    }

    /// True if the worker is gone, or goes within a second.
    pub fn has_ended(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(1);
        while Instant::now() < deadline {
            if self.end_of_worker().is_some() {
                return true;
            }
        }
        false
    }

    pub fn wait_for_end(&mut self, at_most: Duration) {
        let deadline = Instant::now() + at_most;
        while self.end_of_worker().is_none() {
            assert!(Instant::now() < deadline, "the worker lives on");
        }
    }

    pub fn rewind(&mut self) -> Result<Rewound, Refused> {
        let engine = &mut self.engine;
        let rewound = match self.worker.as_mut().expect("a worker") {
            Kept::Forked(worker) => {
                let holding = engine.hold(worker)?;
                let template = self.template.as_ref().expect("a template");
                engine.rewind(template, worker, holding)
            }
            Kept::InPlace(worker) => {
                let holding = engine.hold(worker.worker())?;
                engine.rewind_in_place(worker, holding)
            }
        };
        if let Err(refused) = &rewound {
            // A worker that only the second look refuses is one that the engine
            // would have let go.
            if refused.phases.iter().any(|(name, _)| name == "verify") {
                self.replace_worker();
                panic!("{}, but for the second look: {refused}", cases::LEAK);
            }
        }
        let rewound = rewound?;
        // Whoever was killed on the way has been reaped.
        while self.engine.poll().is_some() {}
        self.forget_answers();
        Ok(rewound)
    }

    /// Drops what the worker wrote after it was no longer waited for: the pipe's
    /// contents are their reader's, and the engine leaves them be.
    fn forget_answers(&mut self) {
        let (_, from_worker) = self.pipes.as_mut().expect("pipes");
        from_worker.consume(from_worker.buffer().len());
        while unread_bytes(from_worker.get_ref().as_fd()).expect("FIONREAD") > 0 {
            let unread = from_worker.fill_buf().expect("answers").len();
            from_worker.consume(unread);
        }
    }

    /// What anybody can see of the worker, less what names the very process.
    pub fn observe(&self) -> String {
        let pid = self.pid();
        let read = |name: &str| {
            fs::read_to_string(format!("/proc/{pid}/{name}"))
                .unwrap_or_else(|error| format!("{name}: {error}"))
        };
        let status: String = read("status")
            .lines()
            .filter(|line| {
                [
                    "Name",
                    "Umask",
                    "Uid",
                    "Gid",
                    "Groups",
                    "Threads",
                    "SigPnd",
                    "ShdPnd",
                    "SigBlk",
                    "SigIgn",
                    "SigCgt",
                    "CapEff",
                    "NoNewPrivs",
                    "Seccomp",
                    "Cpus_allowed",
                    "VmLck",
                    "TracerPid",
                ]
                .iter()
                .any(|name| line.split(':').next() == Some(name))
            })
            .fold(String::new(), |all, line| all + line + "\n");
        let mut descriptors: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("fd")
            .map(|entry| {
                let name = entry
                    .expect("entry")
                    .file_name()
                    .into_string()
                    .expect("number");
                let target = fs::read_link(format!("/proc/{pid}/fd/{name}")).expect("target");
                let target = target.display().to_string();
                let kind = target.split(':').next().unwrap_or_default();
                let info = read(&format!("fdinfo/{name}"));
                let info: Vec<&str> = info
                    .lines()
                    .filter(|line| !line.starts_with("ino:") && !line.starts_with("eventfd-id:"))
                    // What is watched, too, is another one in another worker.
                    .map(|line| match line.split_once(" ino:") {
                        Some((watch, _)) if line.starts_with("inotify") => watch,
                        _ => line,
                    })
                    .collect();
                format!("{name} {kind} {info:?}")
            })
            .collect();
        descriptors.sort();
        let children = read(&format!("task/{pid}/children"));
        let cwd = fs::read_link(format!("/proc/{pid}/cwd")).expect("cwd");
        let maps = joined(&read("maps"));
        let natures = natures(&read("smaps"));
        format!(
            "{status}\n{}\nchildren: {children}\n{}\n{}\n{}\n{}\n{maps}{natures}",
            descriptors.join("\n"),
            cwd.display(),
            read("limits"),
            read("timers"),
            self.processes(),
        )
    }

    /// How many processes the worker's user has.
    fn processes(&self) -> usize {
        fs::read_dir("/proc")
            .expect("proc")
            .filter_map(Result::ok)
            .filter(|entry| {
                use std::os::unix::fs::MetadataExt;
                entry.file_name().to_string_lossy().parse::<i32>().is_ok()
                    && entry
                        .metadata()
                        .is_ok_and(|it| it.uid() == owner().0.as_raw())
            })
            .count()
    }
}

/// The mapping list with neighbours of one kind as one, and without inodes, which
/// tell one worker's table from another's.
fn joined(maps: &str) -> String {
    let mut all: Vec<(u64, u64, String, u64, String)> = Vec::new();
    for line in maps.lines() {
        let mut fields = line.splitn(6, ' ');
        let mut next = || fields.next().unwrap_or_default().trim().to_string();
        let (range, rights, offset) = (next(), next(), next());
        let (device, _inode, name) = (next(), next(), next());
        let hex = |text: &str| u64::from_str_radix(text, 16).expect("hex");
        let (start, end) = range.split_once('-').expect("range");
        let (start, end, offset) = (hex(start), hex(end), hex(&offset));
        let name = format!("{device} {}", name.replace("[heap]", ""));
        match all.last_mut() {
            Some(last)
                if last.1 == start
                    && last.2 == rights
                    && last.4 == name
                    && (offset == 0 || last.3 + (start - last.0) == offset) =>
            {
                last.1 = end;
            }
            _ => all.push((start, end, rights, offset, name)),
        }
    }
    all.iter().fold(String::new(), |text, it| {
        text + &format!("{:x}-{:x} {} {:x} {}\n", it.0, it.1, it.2, it.3, it.4)
    })
}

/// What only the mappings' flags show (proc_pid_smaps(5)), neighbours of one kind as
/// one. Rights are in the mapping list; whether memory is accounted for and was
/// written to is the kernel's own affair.
fn natures(smaps: &str) -> String {
    let mut all: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    let mut range = ("", "");
    for line in smaps.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let flags: Vec<&str> = flags
                .split_whitespace()
                .filter(|flag| !["rd", "wr", "ex", "mr", "mw", "me", "ac", "sd"].contains(flag))
                .collect();
            match all.last_mut() {
                Some(last) if last.1 == range.0 && last.2 == flags => last.1 = range.1,
                _ => all.push((range.0, range.1, flags)),
            }
        } else if let Some(found) = line.split(' ').next().and_then(|it| it.split_once('-')) {
            range = found;
        }
    }
    all.iter().fold(String::new(), |text, (start, end, flags)| {
        text + &format!("{start}-{end} {flags:?}\n")
    })
}

/// Waits a millisecond at most: what the engine follows may need it meanwhile.
fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(1u8)).expect("poll") > 0
}

pub fn run_case(name: &str) -> ExitCode {
    let cases = cases::all();
    let case = cases
        .iter()
        .find(|case| case.name == name)
        .expect("a case of this name");
    // A case that hangs is one that failed. Its worker ends with its tracer.
    nix::unistd::alarm::set(case.patience.as_secs() as u32);
    (case.run)();
    ExitCode::SUCCESS
}
