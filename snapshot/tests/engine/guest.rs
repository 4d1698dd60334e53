//! The template and its workers: a program with some memory, that runs one named
//! mutation after another on request and answers what it sees.

use std::io::{BufRead, BufReader, Write};
use std::fs::File;
use std::os::fd::FromRawFd;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use refunction_snapshot::{inside, syscalls};

use crate::cases;

/// A megabyte of template memory that mutations scribble on.
pub static BALLAST: Mutex<Vec<u8>> = Mutex::new(Vec::new());
/// A number in the data segment.
pub static COUNTER: AtomicU64 = AtomicU64::new(7);

pub const UID: u32 = 64_999;

pub fn main() -> ! {
    let template = inside::Template::adopt().expect("adopted by the engine");
    *BALLAST.lock().expect("ballast") = vec![0x5a; 1 << 20];
    template.serve(b"guest").expect("served");
    privileges();
    inside::ready_point();
    // SAFETY: descriptors 0 and 1 are the pipes that the engine's host gave.
    let (input, mut output) = unsafe { (File::from_raw_fd(0), File::from_raw_fd(1)) };
    let mut lines = BufReader::new(input).lines();
    while let Some(Ok(line)) = lines.next() {
        let answer = cases::act(&line);
        writeln!(output, "{answer}").expect("answered");
    }
    std::process::exit(0)
}

fn privileges() {
    nix::unistd::setgroups(&[]).expect("setgroups");
    nix::unistd::setresgid(UID.into(), UID.into(), UID.into()).expect("setresgid");
    nix::unistd::setresuid(UID.into(), UID.into(), UID.into()).expect("setresuid");
    nix::sys::prctl::set_dumpable(true).expect("dumpable");
    nix::unistd::chdir("/").expect("chdir");
    for filter in syscalls::filters().expect("filters") {
        seccompiler::apply_filter(&filter).expect("filter");
    }
}
