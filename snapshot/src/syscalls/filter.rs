//! The table as a program for the kernel's packet-filter machine (seccomp(2)).
//!
//! One program, searched by halving. The kernel runs a new filter over every
//! system call number, for each calling convention, to learn which ones it always
//! allows (so that it need not run it for those again): with the usual list of
//! comparisons that alone takes longer than everything else in a fork.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, sock_filter};

use super::Note;
use super::architecture::{Architecture, NATIVE};
use super::arguments::When;
use super::table::{
    DENIED, DENIED_WHEN, FREE, FREE_WHEN, NOTED, NOTED_WHEN, OPENING, RECORDED_WHEN,
};
use crate::sabotage::leaves_out;

/// What the kernel does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Free,
    Noted(Note),
    Recorded,
    Denied(u16),
}

impl Verdict {
    fn code(self) -> u32 {
        match self {
            Self::Free => libc::SECCOMP_RET_ALLOW,
            Self::Noted(note) => libc::SECCOMP_RET_TRACE | u32::from(note.message()),
            Self::Recorded => libc::SECCOMP_RET_TRACE,
            Self::Denied(errno) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
        }
    }
}

/// What programs are told of calls that are not there.
const NOT_THERE: Verdict = Verdict::Denied(libc::ENOSYS as u16);

/// All there is to say of one call: exceptions, first match wins, then the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    exceptions: Vec<(When, Verdict)>,
    otherwise: Verdict,
}

/// What no list mentions is recorded.
static UNKNOWN: Rule = Rule {
    exceptions: Vec::new(),
    otherwise: Verdict::Recorded,
};

/// What it would be if it were free.
static KNOWN: Rule = Rule {
    exceptions: Vec::new(),
    otherwise: Verdict::Free,
};

/// From this number on, up to the next segment's, this rule holds.
struct Segment {
    from: u32,
    rule: Rule,
}

// Offsets in struct seccomp_data (linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// The filter that a worker installs before any tenant's code runs.
#[must_use]
pub fn filter() -> BpfProgram {
    program(&NATIVE, &rules())
}

/// The same for a worker that runs beside others, who could write to what it opens.
#[must_use]
pub fn filter_among_others() -> BpfProgram {
    program(&NATIVE, &rules_among_others())
}

fn program(architecture: &Architecture, rules: &BTreeMap<&str, Rule>) -> BpfProgram {
    let mut program = vec![
        instruction(LOAD, ARCHITECTURE),
        branch(EQUAL, architecture.audit, 1, 0),
        // The 32-bit calls of another architecture have other numbers.
        instruction(RETURN, not_there("denied:another-architecture").code()),
        instruction(LOAD, NUMBER),
    ];
    if let Some(foreign) = architecture.foreign {
        // The same calls by other numbers: merely recorded, those that are denied by
        // their own would be made.
        program.push(branch(ANY_BIT, foreign, 0, 1));
        program.push(instruction(
            RETURN,
            not_there("denied:another-convention").code(),
        ));
    }
    program.extend(search(&segments(architecture, rules)));
    program
}

/// What calls get that this handler keeps away.
fn not_there(handler: &str) -> Verdict {
    if leaves_out(handler) {
        Verdict::Free
    } else {
        NOT_THERE
    }
}

fn rules() -> BTreeMap<&'static str, Rule> {
    let mut rules = BTreeMap::new();
    for name in FREE {
        rules
            .entry(*name)
            .or_insert_with(|| UNKNOWN.clone())
            .otherwise = Verdict::Free;
    }
    for (note, names) in NOTED {
        for name in *names {
            rules
                .entry(*name)
                .or_insert_with(|| UNKNOWN.clone())
                .otherwise = Verdict::Noted(*note);
        }
    }
    for (errno, names) in DENIED {
        for name in *names {
            rules
                .entry(*name)
                .or_insert_with(|| UNKNOWN.clone())
                .otherwise = Verdict::Denied(*errno as u16);
        }
    }
    let mut except = |name, when, verdict| {
        let rule: &mut Rule = rules.entry(name).or_insert_with(|| UNKNOWN.clone());
        rule.exceptions.push((when, verdict));
    };
    // The strictest first: the first exception that fits is the one that counts.
    for (name, when, errno) in DENIED_WHEN {
        except(*name, *when, Verdict::Denied(*errno as u16));
    }
    for (name, when, _) in RECORDED_WHEN {
        except(*name, *when, Verdict::Recorded);
    }
    for (name, when, note) in NOTED_WHEN {
        except(*name, *when, Verdict::Noted(*note));
    }
    for (name, when) in FREE_WHEN {
        except(*name, *when, Verdict::Free);
    }
    #[cfg(feature = "sabotage")]
    leave_out(&mut rules);
    rules
}

fn rules_among_others() -> BTreeMap<&'static str, Rule> {
    let mut rules = rules();
    for (name, when) in OPENING {
        let rule = rules.entry(*name).or_insert_with(|| UNKNOWN.clone());
        rule.exceptions.push((*when, Verdict::Recorded));
    }
    rules
}

/// Makes free what the chosen handler denies, records or notes.
#[cfg(feature = "sabotage")]
fn leave_out(rules: &mut BTreeMap<&'static str, Rule>) {
    use crate::sabotage::is_chosen;

    for (_, names) in super::table::RECORDED {
        for name in *names {
            rules.entry(*name).or_insert_with(|| UNKNOWN.clone());
        }
    }
    for (name, rule) in rules {
        let otherwise = match rule.otherwise {
            Verdict::Free => None,
            Verdict::Noted(_) => Some("noted"),
            Verdict::Recorded => Some("recorded"),
            Verdict::Denied(_) => Some("denied"),
        };
        if otherwise.is_some_and(|class| is_chosen(&format!("{class}:{name}"))) {
            rule.otherwise = Verdict::Free;
        }
        rule.exceptions.retain(|(_, verdict)| match verdict {
            Verdict::Free => true,
            Verdict::Noted(_) => !is_chosen(&format!("noted-when:{name}")),
            Verdict::Recorded => !is_chosen(&format!("recorded-when:{name}")),
            Verdict::Denied(_) => !is_chosen(&format!("denied-when:{name}")),
        });
    }
}

fn segments(architecture: &Architecture, rules: &BTreeMap<&str, Rule>) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    // One past the end, where the unknown begins.
    for number in 0..=architecture.end {
        let rule = (architecture.name)(number)
            .and_then(|name| rules.get(name))
            .unwrap_or(if leaves_out("recorded:unknown") {
                &KNOWN
            } else {
                &UNKNOWN
            });
        if segments.last().is_none_or(|last| last.rule != *rule) {
            segments.push(Segment {
                from: number,
                rule: rule.clone(),
            });
        }
    }
    segments
}

/// Code that finds the number's segment and returns its verdict.
fn search(segments: &[Segment]) -> BpfProgram {
    let [segment] = segments else {
        let (lower, upper) = segments.split_at(segments.len() / 2);
        return either(upper[0].from, search(lower), search(upper));
    };
    let mut program = Vec::new();
    for (when, verdict) in &segment.rule.exceptions {
        match *when {
            When::Is(index, values) => {
                let mut values = values.to_vec();
                values.sort_unstable();
                program.push(load_argument(index));
                program.extend(is_one_of(&values, *verdict));
            }
            When::Below(index, end) => {
                program.push(load_argument(index));
                program.push(branch(AT_LEAST, end, 1, 0));
                program.push(instruction(RETURN, verdict.code()));
            }
            When::Has(index, bits) => {
                program.push(load_argument(index));
                program.push(branch(ANY_BIT, bits, 0, 1));
                program.push(instruction(RETURN, verdict.code()));
            }
            When::Lacks(index, bit) => {
                program.push(load_argument(index));
                program.push(branch(ANY_BIT, bit, 1, 0));
                program.push(instruction(RETURN, verdict.code()));
            }
            When::IsAnd(index, value, other, other_value) => {
                program.push(load_argument(index));
                program.push(branch(EQUAL, value, 0, 3));
                program.push(load_argument(other));
                program.push(branch(EQUAL, other_value, 0, 1));
                program.push(instruction(RETURN, verdict.code()));
            }
            When::HasBut(index, bits, others) => {
                program.push(load_argument(index));
                program.push(branch(ANY_BIT, bits, 0, 2));
                program.push(branch(ANY_BIT, others, 1, 0));
                program.push(instruction(RETURN, verdict.code()));
            }
            When::Given(index) => {
                program.push(load_argument(index));
                program.push(branch(EQUAL, 0, 0, 2));
                program.push(load_upper_half(index));
                program.push(branch(EQUAL, 0, 1, 0));
                program.push(instruction(RETURN, verdict.code()));
            }
        }
    }
    program.push(instruction(RETURN, segment.rule.otherwise.code()));
    program
}

/// Code that returns the verdict if what was loaded is one of these, which ascend,
/// and goes on behind its end if not.
fn is_one_of(values: &[u32], verdict: Verdict) -> BpfProgram {
    const FEW: usize = 4;
    if values.len() > FEW {
        let (lower, upper) = values.split_at(values.len() / 2);
        let above = is_one_of(upper, verdict);
        let mut below = is_one_of(lower, verdict);
        below.push(instruction(JUMP, above.len() as u32));
        return either(upper[0], below, above);
    }
    let mut program: BpfProgram = (1..=values.len())
        .map(|nth| {
            // To the verdict; the last one also past it.
            let (found, next) = ((values.len() - nth) as u8, u8::from(nth == values.len()));
            branch(EQUAL, values[nth - 1], found, next)
        })
        .collect();
    program.push(instruction(RETURN, verdict.code()));
    program
}

/// Code that goes on in one of two programs, by what was loaded.
fn either(from: u32, below: BpfProgram, above: BpfProgram) -> BpfProgram {
    let mut program = vec![
        branch(AT_LEAST, from, 0, 1),
        // A conditional jump reaches 255 instructions, this one any number.
        instruction(JUMP, below.len() as u32),
    ];
    program.extend(below);
    program.extend(above);
    program
}

/// The low half of an argument.
fn load_argument(index: u8) -> sock_filter {
    instruction(LOAD, ARGUMENTS + 8 * u32::from(index))
}

fn load_upper_half(index: u8) -> sock_filter {
    instruction(LOAD, ARGUMENTS + 8 * u32::from(index) + 4)
}

fn instruction(code: u16, k: u32) -> sock_filter {
    branch(code, k, 0, 0)
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::super::architecture::{AARCH64, X86_64};
    use super::super::arguments::{
        CLOSE_RANGE_UNSHARE, DENIED_IOCTL, FREE_FCNTL, FREE_IOCTL, NOTED_DESCRIPTORS,
        SETTING_FCNTL, SETTING_IOCTL,
    };
    use super::super::table::RECORDED;
    use super::*;

    const BOTH: [&Architecture; 2] = [&X86_64, &AARCH64];

    /// The machine, as far as the program uses it; the steps it took.
    fn run(program: &[sock_filter], architecture: u32, number: u32, args: [u64; 6]) -> (u32, u32) {
        let mut accumulator = 0;
        let mut at = 0;
        for step in 1.. {
            let it = &program[at];
            at += 1;
            match it.code {
                LOAD => {
                    accumulator = match it.k {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        offset => {
                            let argument = args[((offset - ARGUMENTS) / 8) as usize];
                            (argument >> (8 * (offset % 8))) as u32
                        }
                    };
                }
                JUMP => at += it.k as usize,
                RETURN => return (it.k, step),
                code => {
                    let holds = match code {
                        EQUAL => accumulator == it.k,
                        AT_LEAST => accumulator >= it.k,
                        ANY_BIT => accumulator & it.k != 0,
                        other => panic!("unknown instruction {other:#x}"),
                    };
                    at += usize::from(if holds { it.jt } else { it.jf });
                }
            }
        }
        unreachable!()
    }

    struct Filter {
        architecture: &'static Architecture,
        program: BpfProgram,
    }

    impl Filter {
        fn of(architecture: &'static Architecture) -> Self {
            let program = program(architecture, &rules());
            Self {
                architecture,
                program,
            }
        }

        fn verdict_on(&self, number: u32, args: [u64; 6]) -> u32 {
            run(&self.program, self.architecture.audit, number, args).0
        }

        /// `None` if the architecture has no such call.
        fn verdict(&self, name: &str, args: [u64; 6]) -> Option<u32> {
            let (number, _) = self.architecture.calls().find(|(_, it)| *it == name)?;
            Some(self.verdict_on(number, args))
        }

        fn assert(&self, name: &str, args: [u64; 6], expected: Verdict) {
            assert_eq!(
                self.verdict(name, args),
                Some(expected.code()),
                "{name}{args:x?}"
            );
        }
    }

    fn denied(errno: i32) -> Verdict {
        Verdict::Denied(errno as u16)
    }

    #[test]
    fn every_free_call_is_allowed_and_an_unknown_one_is_recorded() {
        for architecture in BOTH {
            let filter = Filter::of(architecture);
            for name in FREE {
                // Of descriptors, those that a function may have opened; and no flags.
                let descriptor = match *name {
                    "close" | "close_range" | "dup2" | "dup3" => NOTED_DESCRIPTORS.into(),
                    _ => 0,
                };
                let found = filter.verdict(name, [descriptor, descriptor, 0, 0, 0, 0]);
                assert!(
                    found.is_none_or(|it| it == Verdict::Free.code()),
                    "{name}: {found:x?}"
                );
            }
            for number in [architecture.end, 600, 9999, 0x3fff_ffff, 0x8000_0000] {
                let verdict = filter.verdict_on(number, [0; 6]);
                assert_eq!(verdict, Verdict::Recorded.code(), "{number:#x}");
            }
        }
    }

    #[test]
    fn every_recorded_call_is_recorded() {
        for filter in BOTH.map(Filter::of) {
            for name in RECORDED.iter().flat_map(|(_, names)| *names) {
                // No condition on arguments holds for these.
                let found = filter.verdict(name, [u64::MAX; 6]);
                assert!(
                    found.is_none_or(|it| it == Verdict::Recorded.code()),
                    "{name}: {found:x?}"
                );
            }
        }
    }

    #[test]
    fn every_denied_call_is_denied() {
        for filter in BOTH.map(Filter::of) {
            for (errno, names) in DENIED {
                for name in *names {
                    let found = filter.verdict(name, [0; 6]);
                    assert!(
                        found.is_none_or(|it| it == denied(*errno).code()),
                        "{name}: {found:x?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_call_has_the_number_of_its_architecture() {
        let x86 = Filter::of(&X86_64);
        let arm = Filter::of(&AARCH64);
        // read here, io_setup there; then ptrace here and there, nanosleep there.
        assert_eq!(x86.verdict_on(0, [0; 6]), Verdict::Free.code());
        assert_eq!(arm.verdict_on(0, [0; 6]), denied(libc::ENOSYS).code());
        assert_eq!(x86.verdict_on(101, [0; 6]), denied(libc::EPERM).code());
        assert_eq!(arm.verdict_on(117, [0; 6]), denied(libc::EPERM).code());
        assert_eq!(arm.verdict_on(101, [0; 6]), Verdict::Free.code());
        // What only one of them has.
        for legacy in ["open", "stat", "fork", "arch_prctl"] {
            assert!(x86.verdict(legacy, [0; 6]).is_some());
            assert_eq!(arm.verdict(legacy, [0; 6]), None);
        }
    }

    /// The crate's numbers are what the C library of this architecture says.
    #[test]
    fn the_numbers_are_this_kernels() {
        for (name, number) in [
            ("read", libc::SYS_read),
            ("mmap", libc::SYS_mmap),
            ("clone3", libc::SYS_clone3),
            ("openat2", libc::SYS_openat2),
            ("seccomp", libc::SYS_seccomp),
            ("mseal", libc::SYS_mseal),
        ] {
            assert_eq!((NATIVE.name)(number as u32), Some(name));
        }
    }

    #[test]
    fn arguments_decide_where_they_should() {
        for filter in BOTH.map(Filter::of) {
            let advise = |advice: i32, expected| {
                filter.assert("madvise", [0, 0, advice as u64, 0, 0, 0], expected);
            };
            advise(libc::MADV_DONTNEED, Verdict::Free);
            advise(libc::MADV_FREE, denied(libc::EINVAL));
            advise(libc::MADV_DONTFORK, denied(libc::EINVAL));
            advise(libc::MADV_DONTDUMP, Verdict::Recorded);

            let dumpable = |value, expected| {
                let args = [libc::PR_SET_DUMPABLE as u64, value, 0, 0, 0, 0];
                filter.assert("prctl", args, expected);
            };
            dumpable(1, Verdict::Noted(Note::Attributes));
            dumpable(0, Verdict::Recorded);

            let own = u64::from(NOTED_DESCRIPTORS) - 1;
            let noted = Verdict::Noted(Note::Descriptors);
            filter.assert("close", [own, 0, 0, 0, 0, 0], noted);
            filter.assert("close_range", [own, own, 0, 0, 0, 0], noted);
            filter.assert("close_range", [own + 1, own + 2, 0, 0, 0, 0], Verdict::Free);
            let parting = u64::from(CLOSE_RANGE_UNSHARE);
            filter.assert("close_range", [own + 1, own + 2, parting, 0, 0, 0], noted);
            filter.assert("dup3", [own + 1, own, 0, 0, 0, 0], noted);
            filter.assert("dup3", [own, own + 1, 0, 0, 0, 0], Verdict::Free);

            let set = |level: i32, option: i32, expected| {
                let args = [3, level as u64, option as u64, 0, 0, 0];
                filter.assert("setsockopt", args, expected);
            };
            set(
                libc::SOL_SOCKET,
                libc::SO_ZEROCOPY,
                denied(libc::EOPNOTSUPP),
            );
            set(libc::SOL_SOCKET, libc::SO_REUSEADDR, Verdict::Free);
            set(libc::IPPROTO_TCP, libc::SO_ZEROCOPY, Verdict::Free);

            let clone = |flags: i32, expected| {
                filter.assert("clone", [flags as u64, 0, 0, 0, 0, 0], expected);
            };
            clone(libc::SIGCHLD | libc::CLONE_VM, Verdict::Free);
            clone(libc::SIGCHLD | libc::CLONE_NEWUSER, denied(libc::EPERM));

            let map = |protection: i32, flags: i32, expected| {
                let args = [0, 0, protection as u64, flags as u64, 0, 0];
                filter.assert("mmap", args, expected);
            };
            let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            map(libc::PROT_READ, private, Verdict::Free);
            map(
                libc::PROT_READ,
                private | libc::MAP_LOCKED,
                Verdict::Recorded,
            );
            map(libc::PROT_READ | 0x20, private, Verdict::Recorded);
        }
    }

    #[test]
    fn commands_and_requests_of_no_list_are_recorded() {
        const F_SETOWN_EX: u32 = 15;
        const F_SET_RW_HINT: u32 = 1036;
        const SIOCSPGRP: u32 = 0x8902;
        for filter in BOTH.map(Filter::of) {
            let second = |name, value: u32, expected| {
                filter.assert(name, [0, value.into(), 0, 0, 0, 0], expected)
            };
            for command in FREE_FCNTL {
                second("fcntl", *command, Verdict::Free);
            }
            for command in SETTING_FCNTL {
                second("fcntl", *command, Verdict::Noted(Note::Descriptors));
            }
            for request in SETTING_IOCTL {
                second("ioctl", *request, Verdict::Noted(Note::Descriptors));
            }
            for command in [
                libc::F_SETLEASE as u32,
                libc::F_SETPIPE_SZ as u32,
                libc::F_ADD_SEALS as u32,
                libc::F_NOTIFY as u32,
                libc::F_SETOWN as u32,
                F_SETOWN_EX,
                F_SET_RW_HINT,
                12_345,
            ] {
                second("fcntl", command, Verdict::Recorded);
            }
            for request in FREE_IOCTL {
                second("ioctl", *request, Verdict::Free);
            }
            for request in DENIED_IOCTL {
                second("ioctl", *request, denied(libc::EPERM));
            }
            for request in [
                libc::TCSETS as u32,
                libc::TIOCSWINSZ as u32,
                libc::TIOCSCTTY as u32,
                libc::SIOCSIFFLAGS as u32,
                SIOCSPGRP,
                0,
                u32::MAX,
            ] {
                second("ioctl", request, Verdict::Recorded);
            }
        }
    }

    #[test]
    fn a_search_among_many_values_finds_each_and_no_other() {
        for length in 1..40 {
            let values: Vec<u32> = (0..length).map(|nth| 10 * nth + 5).collect();
            let mut program = vec![instruction(LOAD, NUMBER)];
            program.extend(is_one_of(&values, Verdict::Free));
            program.push(instruction(RETURN, Verdict::Recorded.code()));
            for number in 0..10 * length + 10 {
                let expected = if values.contains(&number) {
                    Verdict::Free
                } else {
                    Verdict::Recorded
                };
                assert_eq!(run(&program, 0, number, [0; 6]).0, expected.code());
            }
        }
    }

    #[test]
    fn another_architecture_has_no_calls() {
        const AUDIT_ARCH_I386: u32 = 0x4000_0003;
        const AUDIT_ARCH_ARM: u32 = 0x4000_0028;
        for architecture in BOTH {
            let program = program(architecture, &rules());
            let others = BOTH.map(|it| it.audit).into_iter();
            for audit in others.chain([AUDIT_ARCH_I386, AUDIT_ARCH_ARM]) {
                if audit != architecture.audit {
                    let (verdict, _) = run(&program, audit, 1, [0; 6]);
                    assert_eq!(verdict, denied(libc::ENOSYS).code());
                }
            }
        }
    }

    #[test]
    fn the_x32_convention_has_no_calls() {
        let filter = Filter::of(&X86_64);
        for number in (0..X86_64.end).chain([512, 547, 0x3fff_ffff]) {
            let verdict = filter.verdict_on(0x4000_0000 | number, [0; 6]);
            assert_eq!(verdict, denied(libc::ENOSYS).code(), "{number}");
        }
    }

    #[test]
    fn a_verdict_takes_few_steps() {
        for architecture in BOTH {
            let program = program(architecture, &rules());
            for (number, name) in architecture.calls() {
                let (_, steps) = run(&program, architecture.audit, number, [0; 6]);
                assert!(steps < 40, "{name}: {steps}");
                if ["read", "mmap", "futex", "getrandom"].contains(&name) {
                    assert!(steps < 28, "{name}: {steps}");
                }
            }
            // BPF_MAXINSNS
            assert!(program.len() < 4096);
        }
    }
}
