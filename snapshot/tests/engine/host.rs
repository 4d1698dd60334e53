//! The tracing side of a case.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Command, ExitCode, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Gid, Pid, Uid, pipe};
use refunction_snapshot::{Engine, Refused, Rewound, Scan, Template, Worker};

use crate::{TEMPLATE, cases, guest};

/// An engine, a frozen template and one worker.
pub struct Host {
    pub engine: Engine,
    pub template: Template,
    pub worker: Worker,
    to_worker: File,
    from_worker: BufReader<File>,
    _ends: (std::os::fd::OwnedFd, std::os::fd::OwnedFd),
}

const OWNER: (Uid, Gid) = (Uid::from_raw(guest::UID), Gid::from_raw(guest::UID));

impl Host {
    pub fn start(scan: Scan) -> Self {
        let mut engine = Engine::new(scan).expect("engine");
        let (ours, theirs) = Engine::conversation().expect("conversation");
        #[expect(clippy::zombie_processes, reason = "the engine reaps it")]
        let child = Command::new(std::env::current_exe().expect("own path"))
            .arg(TEMPLATE)
            .stdin(Stdio::from(theirs))
            .spawn()
            .expect("template");
        let pid = Pid::from_raw(child.id().cast_signed());
        let booting = engine.adopt(pid, ours).expect("adopt");
        while !is_readable(booting.socket()) {
            while engine.poll().is_some() {}
        }
        let template = engine.freeze(booting).expect("freeze");
        let (request_read, request_write) = pipe().expect("pipe");
        let (response_read, response_write) = pipe().expect("pipe");
        let worker = engine
            .fork(
                &template,
                &[
                    request_read.as_fd(),
                    response_write.as_fd(),
                    std::io::stderr().as_fd(),
                ],
                OWNER,
            )
            .expect("fork");
        Self {
            engine,
            template,
            worker,
            to_worker: request_write.into(),
            from_worker: BufReader::new(response_read.into()),
            _ends: (request_read, response_write),
        }
    }

    /// Asks the worker to do something; what it answers.
    pub fn ask(&mut self, what: &str) -> String {
        writeln!(self.to_worker, "{what}").expect("asked");
        let mut answer = String::new();
        // The engine must see to what the worker meets on its way.
        let fd = self
            .from_worker
            .get_ref()
            .as_fd()
            .try_clone_to_owned()
            .expect("dup");
        loop {
            while let Some(news) = self.engine.poll() {
                if let refunction_snapshot::News::WorkerEnded { .. } = news {
                    return format!("{news:?}");
                }
            }
            if is_readable(fd.as_fd()) {
                self.from_worker.read_line(&mut answer).expect("answer");
                return answer.trim_end().to_string();
            }
        }
    }

    pub fn rewind(&mut self) -> Result<Rewound, Refused> {
        let holding = self.engine.hold(&mut self.worker)?;
        self.engine
            .rewind(&self.template, &mut self.worker, holding)
    }

    pub fn mapping_list(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/maps", self.worker.pid())).expect("maps")
    }
}

/// Waits a millisecond at most: what the engine follows may need it meanwhile.
fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(1u8)).expect("poll") > 0
}

pub fn run_case(name: &str) -> ExitCode {
    let case = cases::ALL
        .iter()
        .find(|case| case.name == name)
        .expect("a case of this name");
    (case.run)();
    ExitCode::SUCCESS
}
