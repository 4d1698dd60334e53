//! Attributes, limits, priorities and credentials of a process.

use crate::case::Case;
use crate::case::Way::{Refork, Rewind};
use crate::case::{attempt, case};

const LIMITS: &str = "seen += [resource.getrlimit(which) for which in range(16)]";

const ATTRIBUTES: &[&str] = &["attributes"];
const SCHEDULING: &[&str] = &["scheduling"];
const CHANGED_LIMITS: &[&str] = &["limits"];
const CREDENTIALS: &[&str] = &["credentials"];

#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("the umask", Rewind, "os.umask(0o777)", "seen += status('Umask')"),
    case("the working directory", Rewind, "os.chdir('/usr')", "seen.append(os.getcwd())"),
    case("a working directory that is gone", Rewind, "os.mkdir('/tmp/' + tag); os.chdir('/tmp/' + tag); os.rmdir('/tmp/' + tag)", "seen.append(os.readlink('/proc/self/cwd'))"),
    case("a working directory without rights", Rewind, "os.mkdir('/tmp/' + tag); os.chdir('/tmp/' + tag); os.chmod('/tmp/' + tag, 0)", "seen.append(os.readlink('/proc/self/cwd'))"),
    case("the process's name", Rewind, "libc.prctl(15, b'secret', 0, 0, 0)", "seen += status('Name')"),
    case("a name that no terminal should be shown", Rewind, "libc.prctl(15, b'\\n\\x1b[2J)(\\xff', 0, 0, 0)", "seen.append(open('/proc/self/comm', 'rb').read().hex())"),
    case("the death signal and slack", Rewind, "libc.prctl(1, 9, 0, 0, 0); libc.prctl(29, 12345, 0, 0, 0); libc.prctl(36, 1, 0, 0, 0)", "
number = ctypes.c_int()
libc.prctl(2, ctypes.byref(number), 0, 0, 0); seen.append(number.value)
libc.prctl(37, ctypes.byref(number), 0, 0, 0); seen.append(number.value)
seen.append(libc.prctl(30, 0, 0, 0, 0))"),
    case("dumpability", Refork(ATTRIBUTES), "libc.prctl(4, 0, 0, 0, 0)", "seen.append(libc.prctl(3, 0, 0, 0, 0))"),
    case("a session of its own", Refork(ATTRIBUTES), "os.setsid()", "seen.append(os.getsid(0) == os.getpid())"),
    case("a process group of its own", Refork(ATTRIBUTES), "os.setpgid(0, 0)", "seen.append(os.getpgrp() == os.getpid())"),
    case("huge pages switched off", Refork(ATTRIBUTES), "assert libc.prctl(41, 1, 0, 0, 0) == 0", "seen.append(libc.prctl(42, 0, 0, 0, 0))"),
    case("a mitigation switched off", Refork(ATTRIBUTES), "libc.prctl(53, 0, 4, 0, 0); libc.prctl(53, 1, 4, 0, 0); string.tried = 1", "seen += [libc.prctl(52, which, 0, 0, 0) for which in (0, 1)]; seen.append(hasattr(string, 'tried'))"),
    case("no memory that is both written and run", Refork(ATTRIBUTES), "assert libc.prctl(65, 1, 0, 0, 0) == 0", "seen.append(libc.prctl(66, 0, 0, 0, 0))"),
    case("what happens when memory is broken", Refork(ATTRIBUTES), "assert libc.prctl(33, 1, 1, 0, 0) == 0", "seen.append(libc.prctl(34, 0, 0, 0, 0))"),
    case("memory that is merged", Refork(ATTRIBUTES), "libc.prctl(67, 1, 0, 0, 0); string.tried = 1", "seen.append(hasattr(string, 'tried'))"),
    case("a name for memory", Refork(ATTRIBUTES), "
string.held = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
libc.prctl(0x53564d41, 0, ctypes.c_ulong(PAGE), ctypes.c_ulong(4096), b'secret')
string.tried = 1", "seen.append(hasattr(string, 'tried'))"),
    case("calls that come back as signals", Refork(ATTRIBUTES), "
# PR_SYS_DISPATCH_ON with a switch that says no.
string.held = ctypes.create_string_buffer(8)
assert libc.prctl(59, 1, 0, 0, string.held) == 0", "seen.append(hasattr(string, 'held'))"),
    case("who may trace it", Refork(ATTRIBUTES), "libc.prctl(0x59616d61, ctypes.c_ulong(-1 & 2**64 - 1), 0, 0, 0); string.tried = 1", "seen.append(hasattr(string, 'tried'))"),
    case("counters of performance", Refork(ATTRIBUTES), "assert libc.prctl(31, 0, 0, 0, 0) == 0; string.tried = 1", "seen.append(hasattr(string, 'tried'))"),
    case("the end of its code, as it says", Refork(ATTRIBUTES), "libc.prctl(35, 3, 0, 0, 0); string.tried = 1", "seen.append(hasattr(string, 'tried'))"),
    case("bits of security", Refork(ATTRIBUTES), "libc.prctl(28, 0x2f, 0, 0, 0); libc.prctl(8, 1, 0, 0, 0)", "seen += [libc.prctl(27, 0, 0, 0, 0), libc.prctl(7, 0, 0, 0, 0)]"),
    case("another root", Refork(ATTRIBUTES), "string.tried = call('chroot', b'/tmp')", "seen.append(getattr(string, 'tried', None))"),
    // Priorities.
    case("niceness", Refork(SCHEDULING), "os.nice(5)", "seen.append(os.getpriority(os.PRIO_PROCESS, 0))"),
    case("affinity", Refork(SCHEDULING), "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])", "seen.append(sorted(os.sched_getaffinity(0)))"),
    case("a scheduling policy", Refork(SCHEDULING), "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))", "seen.append(os.sched_getscheduler(0))"),
    case("the idle policy", Refork(SCHEDULING), "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))", "seen.append(os.sched_getscheduler(0))"),
    case("a policy that children do not have", Refork(SCHEDULING), "os.sched_setscheduler(0, os.SCHED_OTHER | 0x40000000, os.sched_param(0))", "seen.append(os.sched_getscheduler(0))"),
    case("a slice of time", Refork(SCHEDULING), "
attributes = ctypes.create_string_buffer(struct.pack('<IIQiIQQQ', 48, 0, 0, 0, 0, 77_000_000, 0, 0))
assert call('sched_setattr', 0, attributes, 0) == 0", "
attributes = ctypes.create_string_buffer(48)
call('sched_getattr', 0, attributes, 48, 0)
seen.append(attributes.raw.hex())"),
    case("the priority of its reading and writing", Refork(SCHEDULING), "assert call('ioprio_set', 1, 0, 3 << 13) == 0", "seen.append(call('ioprio_get', 1, 0))"),
    // Limits, each lowered.
    case("a soft limit", Refork(CHANGED_LIMITS), "resource.setrlimit(resource.RLIMIT_NOFILE, (99, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))", LIMITS),
    case("a limit of address space", Refork(CHANGED_LIMITS), "resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 41))", LIMITS),
    case("a limit of the core file", Refork(CHANGED_LIMITS), "hard = resource.getrlimit(resource.RLIMIT_CORE)[1]; resource.setrlimit(resource.RLIMIT_CORE, (4096 if hard else 0, 8192 if hard else 0)); resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 40, 1 << 41))", LIMITS),
    case("a limit of processor time", Refork(CHANGED_LIMITS), "resource.setrlimit(resource.RLIMIT_CPU, (9999, 99999))", LIMITS),
    case("a limit of data", Refork(CHANGED_LIMITS), "resource.setrlimit(resource.RLIMIT_DATA, (1 << 40, 1 << 41))", LIMITS),
    case("a limit of files' sizes", Refork(CHANGED_LIMITS), "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 40, 1 << 41))", LIMITS),
    case("a limit of locked memory", Refork(CHANGED_LIMITS), "resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, 8192))", LIMITS),
    case("a limit of queues", Refork(CHANGED_LIMITS), "resource.setrlimit(resource.RLIMIT_MSGQUEUE, (4096, 8192))", LIMITS),
    case("a limit of descriptors", Refork(CHANGED_LIMITS), "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))", LIMITS),
    case("a limit of processes", Refork(CHANGED_LIMITS), "resource.setrlimit(resource.RLIMIT_NPROC, (500, 500))", LIMITS),
    case("a limit of resident memory", Refork(CHANGED_LIMITS), "resource.setrlimit(resource.RLIMIT_RSS, (1 << 40, 1 << 41))", LIMITS),
    case("a limit of pending signals", Refork(CHANGED_LIMITS), "resource.setrlimit(resource.RLIMIT_SIGPENDING, (7, 9))", LIMITS),
    case("a limit of the stack", Refork(CHANGED_LIMITS), "resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, 2 << 20))", LIMITS),
    case("limits of locks and real time", Refork(CHANGED_LIMITS), "resource.setrlimit(10, (5, 6)); resource.setrlimit(15, (1000, 2000))", LIMITS),
    case("a limit that leaves no memory", Refork(CHANGED_LIMITS), "
size = int(open('/proc/self/statm').read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (size + (4 << 20), resource.RLIM_INFINITY))
try: bytearray(1 << 30)
except MemoryError: string.full = 1", "seen.append(hasattr(string, 'full'))"),
    // Credentials.
    case("another seccomp filter", Refork(CREDENTIALS), "
class Program(ctypes.Structure): _fields_ = [('length', ctypes.c_ushort), ('filter', ctypes.c_char_p)]
allow = (0x06).to_bytes(2, 'little') + b'\\0\\0' + (0x7fff0000).to_bytes(4, 'little')
assert libc.syscall(317, 1, 0, ctypes.byref(Program(1, allow))) == 0", "seen += status('Seccomp_filters')"),
    case("another seccomp filter, by another call", Refork(ATTRIBUTES), "
class Program(ctypes.Structure): _fields_ = [('length', ctypes.c_ushort), ('filter', ctypes.c_char_p)]
allow = (0x06).to_bytes(2, 'little') + b'\\0\\0' + (0x7fff0000).to_bytes(4, 'little')
assert libc.prctl(22, 2, ctypes.byref(Program(1, allow)), 0, 0) == 0", "seen += status('Seccomp_filters')"),
    case("more rules of Landlock", Refork(CREDENTIALS), "
# No right to make symbolic links any more.
rules = call('landlock_create_ruleset', struct.pack('<Q', 1 << 12), 8, 0)
assert call('landlock_restrict_self', rules, 0) == 0", "
seen.append(error_of(lambda: os.symlink('x', f'/tmp/{tag}-{time.monotonic_ns()}')))"),
    case("the user for files", Refork(CREDENTIALS), "call('setfsuid', os.getuid()); call('setfsgid', os.getgid()); string.tried = 1", "seen.append(hasattr(string, 'tried'))"),
    case("sets of capabilities", Refork(CREDENTIALS), "call('capset', struct.pack('<II', 0x20080522, 0), bytes(24)); string.tried = 1", "seen.append(hasattr(string, 'tried'))"),
    attempt("ids that are not its own", Rewind, "
for action in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setresuid(0, 0, 0), lambda: os.setreuid(-1, 0), lambda: os.setgroups([0]), lambda: os.setgroups([])):
    seen.append(error_of(action))", r#"["EPERM", "EPERM", "EPERM", "EPERM", "EPERM", "EPERM"]"#),
    attempt("a program that raises its rights", Rewind, "
for path in ('/bin/su', '/usr/bin/passwd', '/bin/mount'):
    if os.path.exists(path):
        text = subprocess.run(['/bin/sh', '-c', 'cat /proc/self/status'], capture_output=True, text=True).stdout
        seen.append([line.split()[1] for line in text.splitlines() if line.startswith('CapEff')])
seen = [it for it in seen if it != ['0000000000000000']]", "[]"),
    attempt("priorities that it may not have", Rewind, "
for action in (lambda: os.nice(-5), lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(9)), lambda: os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(9))):
    seen.append(error_of(action))
seen.append(call('ioprio_set', 1, 0, 1 << 13))", r#"["EPERM", "EPERM", "EPERM", "EPERM"]"#),
];
