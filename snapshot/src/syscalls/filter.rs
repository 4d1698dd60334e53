//! The table as a program for the kernel's packet-filter machine (seccomp(2)).
//!
//! One program, searched by halving. The kernel runs a new filter over every
//! system call number, for each calling convention, to learn which ones it always
//! allows (so that it need not run it for those again): with the usual list of
//! comparisons that alone takes longer than everything else in a fork.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{BpfProgram, sock_filter};

use super::table::{DENIED, FREE, FREE_WHEN, RECORDED_WHEN, When};

/// What the kernel does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Free,
    Recorded,
    Denied(u16),
}

impl Verdict {
    fn code(self) -> u32 {
        match self {
            Self::Free => libc::SECCOMP_RET_ALLOW,
            Self::Recorded => libc::SECCOMP_RET_TRACE,
            Self::Denied(errno) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
        }
    }
}

/// All there is to say of one number: exceptions, first match wins, then the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    exceptions: Vec<(Condition, Verdict)>,
    otherwise: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Equal(u8, u32),
    AnyBit(u8, u32),
    BothEqual(u8, u32, u8, u32),
}

/// From this number on, up to the next segment's, this rule holds.
struct Segment {
    from: u32,
    rule: Rule,
}

// Offsets in struct seccomp_data (linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// `AUDIT_ARCH_X86_64` (`linux/audit.h`).
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// The filter that a worker installs before any tenant's code runs.
#[must_use]
pub fn filter() -> BpfProgram {
    let mut program = vec![
        instruction(LOAD, ARCHITECTURE),
        branch(EQUAL, NATIVE, 1, 0),
        // The 32-bit calls of another architecture have other numbers.
        instruction(RETURN, Verdict::Denied(libc::ENOSYS as u16).code()),
        instruction(LOAD, NUMBER),
    ];
    program.extend(search(&segments(&rules())));
    program
}

fn rules() -> BTreeMap<u32, Rule> {
    let mut rules: BTreeMap<u32, Rule> = BTreeMap::new();
    let mut add = |number: c_long, when: When, verdict: Verdict| {
        let rule = rules.entry(number as u32).or_insert(Rule {
            exceptions: Vec::new(),
            otherwise: Verdict::Recorded,
        });
        let mut except = |condition| rule.exceptions.push((condition, verdict));
        match when {
            When::Any => rule.otherwise = verdict,
            When::Is(index, values) => values
                .iter()
                .for_each(|value| except(Condition::Equal(index, *value as u32))),
            When::Has(index, bits) => {
                let bits = bits.iter().fold(0, |all, bit| all | *bit as u32);
                except(Condition::AnyBit(index, bits));
            }
            When::IsAnd(index, value, other, other_value) => except(Condition::BothEqual(
                index,
                value as u32,
                other,
                other_value as u32,
            )),
        }
    };
    // The strictest first: the first exception that fits is the one that counts.
    for (errno, calls) in DENIED {
        for (number, when) in *calls {
            add(*number, *when, Verdict::Denied(*errno as u16));
        }
    }
    for (number, when) in RECORDED_WHEN {
        add(*number, *when, Verdict::Recorded);
    }
    for (number, when) in FREE_WHEN {
        add(*number, *when, Verdict::Free);
    }
    for number in FREE {
        add(*number, When::Any, Verdict::Free);
    }
    rules
}

fn segments(rules: &BTreeMap<u32, Rule>) -> Vec<Segment> {
    let unknown = Rule {
        exceptions: Vec::new(),
        otherwise: Verdict::Recorded,
    };
    let last = rules.keys().next_back().map_or(0, |last| last + 1);
    let mut segments: Vec<Segment> = Vec::new();
    for number in 0..=last {
        let rule = rules.get(&number).unwrap_or(&unknown);
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
        let below = search(lower);
        let mut program = vec![
            branch(AT_LEAST, upper[0].from, 0, 1),
            // A conditional jump reaches 255 instructions, this one any number.
            instruction(JUMP, below.len() as u32),
        ];
        program.extend(below);
        program.extend(search(upper));
        return program;
    };
    let mut program = Vec::new();
    for (condition, verdict) in &segment.rule.exceptions {
        match *condition {
            Condition::Equal(index, value) => {
                program.push(load_argument(index));
                program.push(branch(EQUAL, value, 0, 1));
            }
            Condition::AnyBit(index, bits) => {
                program.push(load_argument(index));
                program.push(branch(ANY_BIT, bits, 0, 1));
            }
            Condition::BothEqual(index, value, other, other_value) => {
                program.push(load_argument(index));
                program.push(branch(EQUAL, value, 0, 3));
                program.push(load_argument(other));
                program.push(branch(EQUAL, other_value, 0, 1));
            }
        }
        program.push(instruction(RETURN, verdict.code()));
    }
    program.push(instruction(RETURN, segment.rule.otherwise.code()));
    program
}

/// The low half of an argument: all that the kernel itself looks at in the ones
/// that the table asks about.
fn load_argument(index: u8) -> sock_filter {
    instruction(LOAD, ARGUMENTS + 8 * u32::from(index))
}

fn instruction(code: u16, k: u32) -> sock_filter {
    branch(code, k, 0, 0)
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                        offset => args[((offset - ARGUMENTS) / 8) as usize] as u32,
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

    fn verdict(number: c_long, args: [u64; 6]) -> u32 {
        run(&filter(), NATIVE, number as u32, args).0
    }

    #[test]
    fn every_free_call_is_allowed_and_an_unknown_one_is_recorded() {
        for number in FREE {
            let depends = [
                libc::SYS_ioctl,
                libc::SYS_fcntl,
                libc::SYS_clone,
                libc::SYS_mmap,
            ];
            if !depends.contains(number) {
                assert_eq!(
                    verdict(*number, [u64::MAX; 6]),
                    Verdict::Free.code(),
                    "{number}"
                );
            }
        }
        for number in [0x7fff_ffff, 600, 0x4000_0000 + 1] {
            assert_eq!(verdict(number, [0; 6]), Verdict::Recorded.code());
        }
    }

    #[test]
    fn arguments_decide_where_they_should() {
        let advise = |advice: i32| verdict(libc::SYS_madvise, [0, 0, advice as u64, 0, 0, 0]);
        assert_eq!(advise(libc::MADV_DONTNEED), Verdict::Free.code());
        assert_eq!(
            advise(libc::MADV_FREE),
            Verdict::Denied(libc::EINVAL as u16).code()
        );
        assert_eq!(advise(libc::MADV_DONTFORK), Verdict::Recorded.code());
        let dumpable = |value| {
            verdict(
                libc::SYS_prctl,
                [libc::PR_SET_DUMPABLE as u64, value, 0, 0, 0, 0],
            )
        };
        assert_eq!(dumpable(1), Verdict::Free.code());
        assert_eq!(dumpable(0), Verdict::Recorded.code());
        let set = |level: i32, option: i32| {
            let args = [3, level as u64, option as u64, 0, 0, 0];
            verdict(libc::SYS_setsockopt, args)
        };
        assert_eq!(
            set(libc::SOL_SOCKET, libc::SO_ZEROCOPY),
            Verdict::Denied(libc::EOPNOTSUPP as u16).code()
        );
        assert_eq!(
            set(libc::SOL_SOCKET, libc::SO_REUSEADDR),
            Verdict::Free.code()
        );
        let clone = |flags: i32| verdict(libc::SYS_clone, [flags as u64, 0, 0, 0, 0, 0]);
        assert_eq!(clone(libc::SIGCHLD | libc::CLONE_VM), Verdict::Free.code());
        assert_eq!(
            clone(libc::SIGCHLD | libc::CLONE_NEWUSER),
            Verdict::Denied(libc::EPERM as u16).code()
        );
        assert_eq!(
            verdict(libc::SYS_fcntl, [0, libc::F_SETLEASE as u64, 0, 0, 0, 0]),
            Verdict::Recorded.code()
        );
        assert_eq!(
            verdict(libc::SYS_fcntl, [0, libc::F_GETFL as u64, 0, 0, 0, 0]),
            Verdict::Free.code()
        );
    }

    #[test]
    fn every_unconditional_denial_is_one() {
        for (errno, calls) in DENIED {
            for (number, when) in *calls {
                if matches!(when, When::Any) {
                    assert_eq!(
                        verdict(*number, [0; 6]),
                        Verdict::Denied(*errno as u16).code(),
                        "{number}"
                    );
                }
            }
        }
    }

    #[test]
    fn another_architecture_has_no_calls() {
        let (verdict, _) = run(&filter(), 0x4000_0003, 1, [0; 6]);
        assert_eq!(verdict, Verdict::Denied(libc::ENOSYS as u16).code());
    }

    #[test]
    fn a_verdict_takes_few_steps() {
        let program = filter();
        for number in 0..500 {
            let (_, steps) = run(&program, NATIVE, number, [0; 6]);
            assert!(steps < 80, "{number}: {steps}");
        }
        let free = [
            libc::SYS_read,
            libc::SYS_mmap,
            libc::SYS_futex,
            libc::SYS_getrandom,
        ];
        for number in free {
            let (_, steps) = run(&program, NATIVE, number as u32, [0; 6]);
            assert!(steps < 28, "{number}: {steps}");
        }
        // BPF_MAXINSNS
        assert!(program.len() < 4096);
    }
}
