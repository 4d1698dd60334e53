//! The template and its workers: a program with some memory, that runs one named
//! mutation after another on request and answers what it sees.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use nix::unistd::Pid;
use refunction_snapshot::{inside, syscalls};

use crate::{cases, unseen};

/// A megabyte of template memory that mutations scribble on.
pub static BALLAST: Mutex<Vec<u8>> = Mutex::new(Vec::new());
/// A number in the data segment.
pub static COUNTER: AtomicU64 = AtomicU64::new(7);

/// The user of the workers under this host: one of their own, so that a case sees
/// nobody else's processes.
pub fn id_under(host: Pid) -> u32 {
    1_000_000 + host.as_raw().unsigned_abs()
}

pub fn main() -> ! {
    let template = inside::Template::adopt().expect("adopted by the engine");
    *BALLAST.lock().expect("ballast") = vec![0x5a; 1 << 20];
    unseen::in_template();
    let Ok(newborn) = template.serve(b"guest") else {
        // The host is done with it.
        std::process::exit(0)
    };
    unseen::before_ready_point();
    privileges();
    inside::ready_point();
    let mut descriptors = newborn.descriptors.into_iter().map(File::from);
    let (Some(input), Some(mut output)) = (descriptors.next(), descriptors.next()) else {
        panic!("the host gave no pipes");
    };
    descriptors.for_each(std::mem::forget);
    let mut lines = BufReader::new(input).lines();
    while let Some(Ok(line)) = lines.next() {
        let answer = cases::act(&line);
        writeln!(output, "{answer}").expect("answered");
    }
    std::process::exit(0)
}

fn privileges() {
    // Workers are the host's children, as the template is.
    let id = id_under(Pid::parent());
    nix::unistd::setgroups(&[]).expect("setgroups");
    nix::unistd::setresgid(id.into(), id.into(), id.into()).expect("setresgid");
    nix::unistd::setresuid(id.into(), id.into(), id.into()).expect("setresuid");
    nix::sys::prctl::set_dumpable(true).expect("dumpable");
    nix::unistd::chdir("/").expect("chdir");
    seccompiler::apply_filter(&syscalls::filter()).expect("filter");
}
