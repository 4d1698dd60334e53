//! What a tenant tries on the supervisor, the template, and the kernel.

use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use refunction_tests::supervisor::Supervisor;
use serde_json::{Value, json};

use crate::case::Case;
use crate::case::Way::{Refork, Rewind};
use crate::case::attempt;
use crate::trial;

/// `others`: the supervisor, and the template, which is its other child.
macro_rules! on_others {
    ($what:literal) => {
        concat!(
            "
supervisor = os.getppid()
template = next(int(pid) for pid in os.listdir('/proc') if pid.isdigit() and int(pid) != os.getpid()
    and f'\\nPPid:\\t{supervisor}\\n' in status_of(pid))
for pid in (supervisor, template):
",
            $what,
            "
seen = sorted(set(seen), key=str)"
        )
    };
}

#[rustfmt::skip]
pub const CASES: &[Case] = &[
    attempt("signals to the supervisor and the template", Rewind, on_others!("
    for number in set(range(0, 65)) - {18, 32, 33}:
        seen.append(call('kill', pid, number))
        seen.append(call('tkill', pid, number))
        seen.append(call('tgkill', pid, pid, number))"), r#"["EPERM"]"#),
    attempt("signals to them through handles", Rewind, on_others!("
    handle = os.pidfd_open(pid)
    for number in (0, 9, 15, 19): seen.append(call('pidfd_send_signal', handle, number, 0, 0))
    seen.append(call('pidfd_getfd', handle, 0, 0))"), r#"["EPERM"]"#),
    attempt("signals to everybody", Rewind, "
# The kernel calls it a success even where it reached nobody.
for number in (15, 9, 19, 10): seen.append(call('kill', -1, number))", "[0, 0, 0, 0]"),
    // The one signal that the members of a session may send each other.
    attempt("thousands of calls to continue", Rewind, on_others!("
    for _ in range(2000): call('kill', pid, 18)"), "[]"),
    attempt("signals by way of a descriptor", Refork(&["descriptors"]), "
# The owner of a descriptor is signalled with its setter's rights.
one, other = socket.socketpair()
for pid in (1, os.getppid()):
    try: fcntl.ioctl(one, 0x8901, struct.pack('i', pid))
    except OSError as error: seen.append(errno.errorcode[error.errno])
fcntl.ioctl(one, 0x5452, struct.pack('i', 1))
other.send(b'x' * 100)
seen = []", "[]"),
    attempt("tracing", Rewind, on_others!("
    for request in (16, 0x4206, 24, 4): seen.append(call('ptrace', request, pid, 0, 0))
    seen.append(call('ptrace', 0, 0, 0, 0))"), r#"["EPERM"]"#),
    attempt("memory of the supervisor and the template", Rewind, on_others!("
    for number in ('process_vm_readv', 'process_vm_writev'): seen.append(call(number, pid, 0, 0, 0, 0, 0))
    for name in ('mem', 'environ', 'maps', 'smaps', 'pagemap', 'auxv', 'syscall', 'stack', 'io', 'fd', 'fdinfo', 'map_files', 'timers', 'personality'):
        try: (os.listdir if name.startswith(('fd', 'map_files')) else lambda it: open(it, 'rb').read(1))(f'/proc/{pid}/{name}')
        except PermissionError: continue
        except FileNotFoundError: continue
        seen.append(name)"), r#"["EPERM"]"#),
    attempt("links of the supervisor and the template", Rewind, on_others!("
    for name in ('exe', 'cwd', 'root', 'fd/0', 'fd/3', 'ns/pid'):
        seen.append(error_of(lambda: os.readlink(f'/proc/{pid}/{name}')))"), r#"["EACCES"]"#),
    attempt("priorities and limits of the supervisor and the template", Rewind, on_others!("
    seen.append(error_of(lambda: os.setpriority(os.PRIO_PROCESS, pid, 19)))
    seen.append(error_of(lambda: os.sched_setaffinity(pid, [0])))
    seen.append(error_of(lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))))
    seen.append(call('ioprio_set', 1, pid, 3 << 13))
    seen.append(call('prlimit64', pid, 7, struct.pack('<QQ', 3, 3), 0))
    seen.append(call('prlimit64', pid, 7, 0, ctypes.create_string_buffer(16)))
    seen.append(call('get_robust_list', pid, ctypes.create_string_buffer(8), ctypes.create_string_buffer(8)))"), r#"["EPERM"]"#),
    attempt("kernel features that tenants do not get", Rewind, "
for name, arguments in dict(io_uring_setup=(1, 0), clone3=(0, 0), shmget=(1, 4096, 0o1600), semget=(1, 1, 0o1600), msgget=(1, 0o1600), mq_open=(0, 0, 0, 0), vmsplice=(1, 0, 0, 0)).items():
    seen.append(call(name, *arguments))
seen = sorted(set(seen), key=str)", r#"["ENOSYS"]"#),
    attempt("namespaces, mounts, keys and programs for the kernel", Rewind, "
for name, arguments in dict(userfaultfd=(0,), bpf=(0, 0, 0), perf_event_open=(0, 0, 0, 0, 0), keyctl=(0, 0, 0), mount=(0, 0, 0, 0, 0), unshare=(0x10000000,), setns=(0, 0), personality=(0xffffffff,), open_by_handle_at=(0, 0, 0), process_madvise=(0, 0, 0, 0, 0), kcmp=(1, 1, 0, 0, 0), process_mrelease=(0, 0)).items():
    seen.append(call(name, *arguments))
seen = sorted(set(seen), key=str)", r#"["EPERM"]"#),
    attempt("the 32-bit way into the kernel", Rewind, "
# int 0x80: getpid by its number there. A child tries it: the filter may kill.
child = os.fork()
if child == 0:
    answer = struct.unpack('<i', run('b814000000cd808907c3', bytes(4))[:4])[0]
    os._exit(7 if answer == os.getpid() else 0)
status = os.waitpid(child, 0)[1]
seen.append(os.WIFEXITED(status) and os.WEXITSTATUS(status) == 7)", "[false]"),
    attempt("the x32 numbers of system calls", Rewind, "
child = os.fork()
if child == 0: os._exit(7 if libc.syscall(ctypes.c_long(0x40000000 | 39)) == os.getpid() else 0)
status = os.waitpid(child, 0)[1]
seen.append(os.WIFEXITED(status) and os.WEXITSTATUS(status) == 7)", "[false]"),
    attempt("a terminal's input", Rewind, "
master, slave = os.openpty()
seen.append(error_of(lambda: fcntl.ioctl(slave, 0x5412, b'x')))
seen.append(error_of(lambda: fcntl.ioctl(slave, 0x541c, b'x')))", r#"["EPERM", "EPERM"]"#),
];

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "what_is_denied_is_denied_as_programs_expect",
            what_is_denied_is_denied_as_programs_expect,
        ),
        trial(
            "nothing_can_be_set_through_proc",
            nothing_can_be_set_through_proc,
        ),
        trial(
            "a_worker_is_as_it_should_be_wherever_it_was_started",
            a_worker_is_as_it_should_be,
        ),
    ]
}

fn what_is_denied_is_denied_as_programs_expect() {
    let mut supervisor = Supervisor::start(&[]);
    supervisor.load(
        "import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def main(calls):
    answers = []
    for call in calls:
        ctypes.set_errno(0)
        result = libc.syscall(*[ctypes.c_long(it) for it in call])
        answers.append(errno.errorcode.get(ctypes.get_errno(), result))
    return answers
",
    );
    let calls = [
        ("ENOSYS", "io_uring_setup", vec![425, 1, 0]),
        ("ENOSYS", "clone3", vec![435, 0, 0]),
        // What has no process for an owner would outlive every tenant.
        ("ENOSYS", "shmget", vec![29, 1, 4096, 0o1600]),
        ("ENOSYS", "semget", vec![64, 1, 1, 0o1600]),
        ("ENOSYS", "msgget", vec![68, 1, 0o1600]),
        ("ENOSYS", "mq_open", vec![240, 0, 0, 0, 0]),
        ("EINVAL", "madvise(MADV_FREE)", vec![28, 0, 0, 8]),
        ("EPERM", "ptrace", vec![101, 0, 0, 0, 0]),
        ("EPERM", "userfaultfd", vec![323, 0]),
        ("EPERM", "bpf", vec![321, 0, 0, 0]),
        ("EPERM", "perf_event_open", vec![298, 0, 0, 0, 0, 0]),
        ("EPERM", "keyctl", vec![250, 0, 0, 0]),
        ("EPERM", "mount", vec![165, 0, 0, 0, 0, 0]),
        ("EPERM", "unshare", vec![272, 0x1000_0000]),
        ("EPERM", "setns", vec![308, 0, 0]),
        ("EPERM", "process_vm_readv", vec![310, 1, 0, 0, 0, 0, 0]),
        ("EPERM", "personality", vec![135, 0xffff_ffffu32]),
        ("EPERM", "open_by_handle_at", vec![304, 0, 0, 0]),
    ];
    let numbers: Vec<&Vec<u32>> = calls.iter().map(|(_, _, call)| call).collect();
    let expected: Vec<&str> = calls.iter().map(|(errno, ..)| *errno).collect();
    assert_eq!(
        supervisor.call(&json!(numbers)),
        json!(expected),
        "{calls:?}"
    );
    // Refused calls change nothing, and so are no reason to refork.
    let restored = supervisor.restore();
    assert_eq!(restored.method, "rewind", "{}", restored.report);
}

/// The kernel keeps these for a process, and no rewind reads them all.
fn nothing_can_be_set_through_proc() {
    let mut supervisor = Supervisor::start(&[]);
    supervisor.load(
        "import os
def main(names):
    opened = []
    for name in names:
        for place in ('self', 'thread-self', f'self/task/{os.getpid()}'):
            path = f'/proc/{place}/{name}'
            try: os.close(os.open(path, os.O_WRONLY))
            except FileNotFoundError: continue
            except PermissionError: continue
            opened.append(path)
    return opened
",
    );
    let names = json!([
        "mem",
        "coredump_filter",
        "oom_score_adj",
        "oom_adj",
        "comm",
        "clear_refs",
        "timerslack_ns",
        "loginuid",
        "uid_map",
        "setgroups",
        "autogroup",
        "sched",
        "make-it-fail",
        "attr/current",
        "attr/exec",
        "attr/keycreate",
    ]);
    assert_eq!(
        supervisor.call(&names),
        json!([]),
        "these could be opened for writing"
    );
}

/// Whoever starts the supervisor may have set these otherwise.
fn a_worker_is_as_it_should_be() {
    let started = |command: &mut Command| {
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", "umask 0; cd /usr; exec \"$0\" \"$@\""])
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell.env_remove("FUNCTION_ROOT");
        shell.env_remove("LAMBDA_TASK_ROOT");
        *command = shell;
    };
    for method in ["auto", "refork"] {
        let mut supervisor = Supervisor::start_with(&["--method", method], started);
        for _ in 0..2 {
            supervisor.load(
                "import os
def main(args):
    lines = open('/proc/self/status').read().splitlines()
    status = dict(line.split(':', 1) for line in lines)
    score = open('/proc/self/oom_score_adj').read()
    return [status['Umask'].strip(), os.getcwd(), score.strip(), status['NoNewPrivs'].strip()]
",
            );
            let seen = supervisor.call(&Value::Null);
            assert_eq!(seen, json!(["0022", "/", "1000", "1"]), "{method}");
            supervisor.restore();
        }
    }
}
