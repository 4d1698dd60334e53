//! Tenant A changes something, the container is restored, tenant B looks.
//!
//! Each case is a pair of Python fragments. That the look would see the change is
//! tried every time, in tenant A's own process and before the restore: a look that
//! sees nothing proves nothing.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

use refunction_tests::supervisor::Supervisor;
use serde_json::{Value, json};

/// How the container is to come back.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// The worker is put back in place.
    Rewind,
    /// The worker is replaced, because of this row of the state table.
    Refork(&'static str),
}

use Way::{Refork, Rewind};

struct Case {
    name: &'static str,
    /// What tenant A does; what it leaves in `hint` the looks are told.
    change: &'static str,
    /// Leaves in `seen` what it sees: the same wherever nothing was changed.
    look: &'static str,
    way: Way,
}

const fn case(name: &'static str, way: Way, change: &'static str, look: &'static str) -> Case {
    Case {
        name,
        change,
        look,
        way,
    }
}

const FILES: &str = "
mine = os.getuid()
for place in ('/tmp', '/var/tmp', '/dev/shm'):
    for name in os.listdir(place):
        try:
            if os.lstat(os.path.join(place, name)).st_uid == mine: seen.append(name)
        except OSError: pass";

const DESCRIPTORS: &str = "
for number in range(300):
    try: kind = os.readlink(f'/proc/self/fd/{number}')
    except OSError: continue
    # A refork brings other pipes, and another image's table.
    seen.append([number, kind.split('[')[0], os.get_inheritable(number), os.get_blocking(number)])";

const PROCESSES: &str = "
mine = str(os.getuid())
for pid in filter(str.isdigit, os.listdir('/proc')):
    try: text = open(f'/proc/{pid}/status').read()
    except OSError: continue
    # One that is dead and waits to be reaped, which takes a moment, holds nothing.
    if 'State:\\tZ' not in text and text.split('\\nUid:\\t')[1].split()[0] == mine: seen.append(text.split()[1])
seen.sort()
try: seen.append(os.waitpid(-1, os.WNOHANG))
except ChildProcessError: pass";

const THREADS: &str =
    "seen.append([len(os.listdir('/proc/self/task')), len(threading.enumerate())])";

const STATUS: &str = "
for line in open('/proc/self/status'):
    if line.split(':')[0] in ('Name', 'Umask', 'ShdPnd', 'SigPnd', 'SigBlk', 'SigIgn', 'SigCgt', 'NoNewPrivs', 'Seccomp_filters', 'Uid', 'Gid', 'Groups', 'CapEff', 'VmLck', 'Cpus_allowed', 'THP_enabled'):
        seen.append(line.strip())";

const CASES: &[Case] = &[
    // What a language keeps.
    case("a global of the function's", Rewind, "globals()['secret'] = 1", "seen.append('secret' in globals())"),
    case("an attribute of a module", Rewind, "string.secret = 1", "seen.append(hasattr(string, 'secret'))"),
    case("a patched json.dumps", Rewind, "json.dumps = lambda *_, **__: 'patched'", "seen.append(json.dumps([1]))"),
    case("patched builtins", Rewind, "builtins.secret = 1; builtins.len = lambda it: 42", "seen.append([hasattr(builtins, 'secret'), len([1])])"),
    case("a patched class", Rewind, "pathlib.Path.secret = lambda self: 1; json.JSONEncoder.default = None", "seen.append([hasattr(pathlib.Path, 'secret'), json.JSONEncoder.default is None])"),
    case("the environment", Rewind, "os.environ['SECRET'] = '1'; os.environ.pop('PATH', None); os.putenv('OTHER', '2')", "seen += [os.environ.get('SECRET'), os.environ.get('PATH'), libc.getenv(b'SECRET') != 0, libc.getenv(b'OTHER') != 0]"),
    case("sys.path and finders", Rewind, "sys.path.insert(0, '/tmp/secret'); sys.meta_path.clear(); sys.path_hooks.clear()", "seen += [sys.path, len(sys.meta_path), len(sys.path_hooks)]"),
    case("sys.modules", Rewind, "sys.modules['secret'] = sys; del sys.modules['json']; import colorsys", "seen += [name in sys.modules for name in ('secret', 'json', 'colorsys')]"),
    case("atexit", Rewind, "atexit.register(print, 'secret')", "seen.append(atexit._ncallbacks())"),
    case("collector callbacks", Rewind, "gc.callbacks.append(lambda *_: None); gc.disable(); gc.set_threshold(5)", "seen += [len(gc.callbacks), gc.isenabled(), gc.get_threshold()]"),
    case("sys.settrace", Rewind, "sys.settrace(lambda *_: None); sys.setprofile(lambda *_: None); threading.settrace(print)", "seen += [sys.gettrace() is None, sys.getprofile() is None, threading._trace_hook is None]"),
    case("audit hooks", Rewind, "held = []; sys.addaudithook(lambda *_: held.append(1)); string.held = held", "os.listdir('/'); seen.append(hasattr(string, 'held'))"),
    case("interpreter settings", Rewind, "sys.setrecursionlimit(77777); sys.setswitchinterval(0.5); sys.set_int_max_str_digits(0)", "seen += [sys.getrecursionlimit(), sys.getswitchinterval(), sys.get_int_max_str_digits()]"),
    case("hooks and streams", Rewind, "sys.excepthook = sys.displayhook = print; sys.stdout = open(os.devnull, 'w'); sys.stdin = None", "seen += [sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__, sys.stdout is sys.__stdout__]"),
    case("decimal, warnings, logging", Rewind, "decimal.getcontext().prec = 3; warnings.simplefilter('ignore'); logging.getLogger().addHandler(logging.NullHandler()); logging.disable()", "seen += [str(decimal.Decimal(1) / 3), len(warnings.filters), len(logging.getLogger().handlers), logging.root.manager.disable]"),
    case("the locale and the time zone", Rewind, "os.environ['TZ'] = 'Asia/Tokyo'; time.tzset(); locale.setlocale(locale.LC_ALL, 'C')", "seen += [time.tzname, time.localtime(0).tm_hour, locale.setlocale(locale.LC_ALL)]"),
    case("the C library's generator", Rewind, "libc.srand(99); libc.rand()", "seen.append(libc.rand())"),
    case("an event loop", Rewind, "loop = asyncio.new_event_loop(); asyncio.set_event_loop(loop)", "seen.append(asyncio.get_event_loop_policy()._local._loop is None)"),
    // Files.
    case("a file in /tmp", Rewind, "open('/tmp/' + tag, 'w').write('secret')", FILES),
    case("a hidden file", Rewind, "open('/tmp/.' + tag, 'w').write('secret')", FILES),
    case("nested directories", Rewind, "os.makedirs('/tmp/' + tag + '/a/b/c'); open('/tmp/' + tag + '/a/b/.c', 'w').close(); os.chmod('/tmp/' + tag + '/a', 0)", FILES),
    case("a file with an odd name", Rewind, "os.close(os.open(b'/var/tmp/' + tag.encode() + b' \\n\\xff\\xfe-rf *', os.O_CREAT))", "
mine = os.getuid()
for name in os.listdir(b'/var/tmp'):
    if os.lstat(b'/var/tmp/' + name).st_uid == mine: seen.append(repr(name))"),
    case("a fifo", Rewind, "os.mkfifo('/tmp/' + tag)", FILES),
    case("a socket in the file system", Rewind, "string.held = socket.socket(socket.AF_UNIX); string.held.bind('/tmp/' + tag)", FILES),
    case("links", Rewind, "os.symlink('/etc', '/tmp/' + tag); os.symlink('/nonexistent', '/tmp/' + tag + '2'); os.mkdir('/tmp/' + tag + '3'); os.symlink('/etc/passwd', '/tmp/' + tag + '3/x')", FILES),
    case("a file nobody may read", Rewind, "os.close(os.open('/tmp/' + tag, os.O_CREAT, 0)); os.mkdir('/tmp/' + tag + 'd', 0)", FILES),
    case("a file in /dev/shm", Rewind, "open('/dev/shm/' + tag, 'w').write('secret')", FILES),
    case("shared memory of multiprocessing", Rewind, "
from multiprocessing import resource_tracker, shared_memory
resource_tracker.register = lambda *_: None
string.held = shared_memory.SharedMemory(name=tag, create=True, size=100000)
string.held.buf[:6] = b'secret'", FILES),
    case("a process that goes on making files", Rewind, "
subprocess.Popen(['/bin/sh', '-c', 'i=0; while true; do i=$((i+1)); : > /tmp/$0-$i; done', tag], start_new_session=True)
while not any(name.startswith(tag) for name in os.listdir('/tmp')): time.sleep(0.001)", FILES),
    // Threads and processes.
    case("a thread", Rewind, "threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()", THREADS),
    case("twenty threads that never rest", Rewind, "
def busy():
    while True: time.sleep(0)
for _ in range(20): threading.Thread(target=busy, daemon=True).start()", THREADS),
    case("a thread pool", Rewind, "string.held = concurrent.futures.ThreadPoolExecutor(4); [string.held.submit(time.sleep, 0.01) for _ in range(9)]", THREADS),
    case("a timer of threading's", Rewind, "threading.Timer(0.1, lambda: setattr(string, 'fired', 1)).start()", "seen.append([len(os.listdir('/proc/self/task')), hasattr(string, 'fired')])"),
    case("a subprocess", Rewind, "subprocess.Popen(['/bin/sleep', '1000'])", PROCESSES),
    case("a daemon", Rewind, "
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(write, b'x')
        time.sleep(1000)
    os._exit(0)
os.read(read, 1)", PROCESSES),
    case("a zombie", Rewind, "
for _ in range(3):
    if os.fork() == 0: os._exit(0)
os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)", PROCESSES),
    case("processes that fork without end", Rewind, "
if os.fork() == 0:
    while True:
        if os.fork(): time.sleep(0.002); os._exit(0)
time.sleep(0.02)", PROCESSES),
    // Descriptors.
    case("open descriptors", Rewind, "string.held = [open('/etc/passwd'), open(os.devnull, 'w'), os.pipe(), os.memfd_create('x')] + [socket.socket() for _ in range(20)]", DESCRIPTORS),
    case("epoll, eventfd and inotify", Rewind, "string.held = select.epoll(); string.held.register(3); string.event = os.eventfd(5); string.watch = libc.inotify_init(); libc.inotify_add_watch(string.watch, b'/tmp', 0xfff)", DESCRIPTORS),
    case("a descriptor with a high number", Rewind, "os.dup2(0, 250)", DESCRIPTORS),
    case("a listening port", Rewind, "
string.held = socket.socket()
string.held.bind(('127.0.0.1', 0))
string.held.listen()
hint = string.held.getsockname()[1]", "
probe = socket.socket()
seen.append(hint is not None and probe.connect_ex(('127.0.0.1', hint)) == 0)
probe.close()"),
    case("an abstract socket", Rewind, "string.held = socket.socket(socket.AF_UNIX); string.held.bind('\\0' + tag); string.held.listen()", "
probe = socket.socket(socket.AF_UNIX)
seen.append(probe.connect_ex('\\0' + tag) == 0)
probe.close()"),
    case("a connection", Rewind, "
server = socket.socket(); server.bind(('127.0.0.1', 0)); server.listen()
string.held = [server, socket.create_connection(server.getsockname())]", DESCRIPTORS),
    case("another standard input", Refork("descriptors"), "read, write = os.pipe(); os.dup2(read, 0); os.write(write, b'secret')", DESCRIPTORS),
    case("another standard output", Refork("descriptors"), "os.dup2(os.open('/dev/null', os.O_WRONLY), 1)", DESCRIPTORS),
    case("a closed standard error", Refork("descriptors"), "os.close(2)", DESCRIPTORS),
    case("a descriptor of the channel without blocking", Rewind, "os.set_blocking(4, False)", DESCRIPTORS),
    // Signals and timers.
    case("signal handlers", Rewind, "
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
signal.signal(40, signal.SIG_IGN)", STATUS),
    case("a signal mask and pending signals", Rewind, "
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGUSR2, 41])
for number in (signal.SIGUSR1, signal.SIGUSR2, 41, 41): os.kill(os.getpid(), number)
signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)", STATUS),
    case("an alternate stack", Rewind, "faulthandler.enable(open(os.devnull, 'w'))", STATUS),
    case("a wake-up descriptor", Rewind, "r, w = os.pipe(); os.set_blocking(w, False); signal.set_wakeup_fd(w)", "old = signal.set_wakeup_fd(-1); seen.append(old); signal.set_wakeup_fd(old) if old >= 0 else None"),
    case("an interval timer that would fire", Rewind, "signal.setitimer(signal.ITIMER_REAL, 0.3); signal.setitimer(signal.ITIMER_VIRTUAL, 100); signal.setitimer(signal.ITIMER_PROF, 100)", "
seen += [bool(signal.getitimer(which)[0]) for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)]
# Long enough for it to have fired, where there is none any more.
if not seen[0]: time.sleep(0.35)"),
    case("an alarm", Rewind, "signal.alarm(100)", "left = signal.alarm(0); seen.append(left > 0); signal.alarm(left)"),
    case("a POSIX timer", Refork("timers"), "libc.timer_create(1, None, ctypes.byref(ctypes.c_void_p()))", "seen.append(open('/proc/self/timers').read())"),
    // Attributes of the process.
    case("the umask", Rewind, "os.umask(0o777)", STATUS),
    case("the working directory", Rewind, "os.chdir('/usr')", "seen.append(os.getcwd())"),
    case("the process's name", Rewind, "libc.prctl(15, b'secret', 0, 0, 0)", STATUS),
    case("the death signal and slack", Rewind, "libc.prctl(1, 9, 0, 0, 0); libc.prctl(29, 12345, 0, 0, 0); libc.prctl(36, 1, 0, 0, 0)", "
number = ctypes.c_int()
libc.prctl(2, ctypes.byref(number), 0, 0, 0); seen.append(number.value)
libc.prctl(37, ctypes.byref(number), 0, 0, 0); seen.append(number.value)
seen.append(libc.prctl(30, 0, 0, 0, 0))"),
    case("dumpability", Refork("attributes"), "libc.prctl(4, 0, 0, 0, 0)", "seen.append(libc.prctl(3, 0, 0, 0, 0))"),
    case("a session of its own", Refork("attributes"), "os.setsid()", "seen.append(os.getsid(0) == os.getpid())"),
    case("niceness", Refork("scheduling"), "os.nice(5)", "seen.append(os.getpriority(os.PRIO_PROCESS, 0))"),
    case("affinity", Refork("scheduling"), "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])", "seen.append(sorted(os.sched_getaffinity(0)))"),
    case("a scheduling policy", Refork("scheduling"), "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))", "seen.append(os.sched_getscheduler(0))"),
    case("a soft limit", Refork("limits"), "resource.setrlimit(resource.RLIMIT_NOFILE, (99, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))", "seen += [resource.getrlimit(which) for which in range(16)]"),
    case("a hard limit", Refork("limits"), "resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); resource.setrlimit(resource.RLIMIT_NPROC, (500, 500))", "seen += [resource.getrlimit(which) for which in range(16)]"),
    case("another seccomp filter", Refork("credentials"), "
class Program(ctypes.Structure): _fields_ = [('length', ctypes.c_ushort), ('filter', ctypes.c_char_p)]
allow = (0x06).to_bytes(2, 'little') + b'\\0\\0' + (0x7fff0000).to_bytes(4, 'little')
assert libc.syscall(317, 1, 0, ctypes.byref(Program(1, allow))) == 0", STATUS),
    // Memory.
    case("64 MB of mappings", Rewind, "
string.shared = mmap.mmap(-1, 32 << 20); string.shared.write(b'secret' * 5_000_000)
string.private = mmap.mmap(-1, 32 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); string.private.write(b'secret' * 5_000_000)", "seen.append(sum(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmSize')) // 16384)"),
    case("a file's mapping", Rewind, "string.held = mmap.mmap(os.open('/etc/passwd', os.O_RDONLY), 0, prot=mmap.PROT_READ)", "seen.append('/etc/passwd' in open('/proc/self/maps').read())"),
    case("protection of memory that was there", Rewind, "libc.mprotect(ctypes.c_void_p(id(string.ascii_letters) & ~4095), 4096, 7)", "
page = id(string.ascii_letters)
for line in open('/proc/self/maps'):
    start, end = (int(it, 16) for it in line.split()[0].split('-'))
    if start <= page < end: seen.append(line.split()[1])"),
    case("heap grown and freed", Rewind, "
held = [bytes(50_000) for _ in range(1000)]
del held
libc.sbrk.restype = ctypes.c_void_p; libc.sbrk(ctypes.c_long(50_000_000))", "libc.sbrk.restype = ctypes.c_void_p; seen.append(libc.sbrk(ctypes.c_long(0)) // 4_000_000)"),
    case("a deep stack", Rewind, "
sys.setrecursionlimit(10**6)
def deep(left): return [left] and max([left, deep(left - 1)]) if left else 0
deep(5000)
string.deep = 1", "seen.append(hasattr(string, 'deep'))"),
    case("bytes of an interned constant", Rewind, "
target = string.ascii_lowercase
ctypes.memset(id(target) + object.__basicsize__ + 32, ord('Z'), 5)", "seen.append(string.ascii_lowercase)"),
    case("locked memory", Refork("memory_advice"), "libc.mlock(ctypes.c_void_p(id(string.ascii_letters) & ~4095), 4096)", STATUS),
    case("advice against forks", Refork("memory_advice"), "libc.madvise(ctypes.c_void_p(id(string.ascii_letters) & ~4095), 4096, 10)", "
page = id(string.ascii_letters)
inside = False
for line in open('/proc/self/smaps'):
    first = line.split()[0]
    if '-' in first and not first.endswith(':'):
        start, end = (int(it, 16) for it in first.split('-'))
        inside = start <= page < end
    elif inside and first == 'VmFlags:': seen.append('dc' in line.split())"),
    case("the rounding of numbers", Rewind, "libm.fesetround(0x800)", "seen += [libm.fegetround(), (1.0 / 3.0).hex()]"),
    case("the C library's last error", Rewind, "ctypes.set_errno(77)", "seen.append(ctypes.get_errno())"),
];

/// Both tenants' function: the change and the look, in one source.
fn source(case: &Case, tag: &str) -> String {
    let indented = |fragment: &str| {
        let lines: Vec<String> = fragment
            .trim_matches('\n')
            .lines()
            .map(|line| format!("    {line}\n"))
            .collect();
        lines.concat()
    };
    format!(
        "import asyncio, atexit, builtins, concurrent.futures, ctypes, decimal, faulthandler, gc
import json, locale, logging, mmap, os, pathlib, resource, select, signal, socket, string
import subprocess, sys, threading, time, warnings
libc = ctypes.CDLL(None, use_errno=True)
libm = ctypes.CDLL('libm.so.6')
libc.getenv.restype = ctypes.c_long
tag = {tag:?}

def change():
    hint = None
{}    return hint

def look(hint):
    seen = []
{}    return seen

def main(args):
    return change() if args == 'change' else look(args['hint'])
",
        indented(case.change),
        indented(case.look)
    )
}

/// Runs one case; what went wrong, if anything did.
fn run(case: &Case, supervisor: &mut Supervisor, always_refork: bool) -> Result<(), String> {
    let tag = format!("secret-{}", supervisor.uid);
    let source = source(case, &tag);
    let answer = |supervisor: &mut Supervisor, data: &Value| {
        let answer = supervisor.answer(data);
        if answer["type"] == "response" {
            Ok(answer["data"].clone())
        } else {
            Err(format!("{data} failed: {}", answer["data"]))
        }
    };
    supervisor.load(&source);
    let clean = answer(supervisor, &json!({"hint": null}))?;
    // From the start again, so that the second tenant's way is the first one's.
    supervisor.restore();
    supervisor.load(&source);
    let hint = answer(supervisor, &json!("change"))?;
    let told = json!({ "hint": hint });
    let changed = answer(supervisor, &told)?;
    if changed == clean {
        return Err(format!("the look sees no change: {clean}"));
    }
    let restored = supervisor.restore();
    supervisor.load(&source);
    let after = answer(supervisor, &told)?;
    supervisor.restore();
    if after != clean {
        return Err(format!("tenant B saw {after}, not {clean}"));
    }
    let (method, rows): (_, &[&str]) = match case.way {
        _ if always_refork => ("refork", &[]),
        Rewind => ("rewind", &[]),
        Refork(ref row) => ("refork", std::slice::from_ref(row)),
    };
    if restored.method != method
        || rows
            .iter()
            .any(|row| !restored.rows.iter().any(|it| it == row))
    {
        return Err(format!(
            "expected {method} {rows:?}, got {} {}",
            restored.method, restored.report["taints"]
        ));
    }
    Ok(())
}

fn all_cases(arguments: &[&str]) {
    let always_refork = arguments.contains(&"refork");
    let mut supervisor = Supervisor::start(arguments);
    let mut failures = Vec::new();
    for case in CASES {
        if let Err(what) = run(case, &mut supervisor, always_refork) {
            failures.push(format!("{}: {what}", case.name));
            // The next case is not to suffer from this one.
            supervisor.restore();
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases:\n{}",
        failures.len(),
        CASES.len(),
        failures.join("\n")
    );
    supervisor.send(&json!({"type": "shutdown"}));
    assert_eq!(supervisor.wait(), 0);
    supervisor.assert_nothing_left();
}

#[test]
fn nothing_gets_through_a_rewind_with_the_ioctl() {
    all_cases(&["--method", "auto", "--scan", "ioctl"]);
}

#[test]
fn nothing_gets_through_a_rewind_with_the_file() {
    all_cases(&["--method", "auto", "--scan", "file"]);
}

#[test]
fn nothing_gets_through_a_refork_with_the_ioctl() {
    all_cases(&["--method", "refork", "--scan", "ioctl"]);
}

#[test]
fn nothing_gets_through_a_refork_with_the_file() {
    all_cases(&["--method", "refork", "--scan", "file"]);
}

/// Killed in the middle of a fork, a process leaves a child that nobody was told of.
#[test]
fn no_child_of_a_killed_process_is_forgotten() {
    let mut supervisor = Supervisor::start(&[]);
    for round in 0..150 {
        supervisor.load(
            "import os, time
def main(args):
    if os.fork() == 0:
        while True:
            if os.fork(): time.sleep(0.002); os._exit(0)
    time.sleep(0.01)
",
        );
        supervisor.call(&Value::Null);
        let restored = supervisor.restore();
        assert_eq!(restored.method, "rewind", "{}", restored.report);
        let uid = supervisor.uid;
        refunction_tests::eventually(&format!("only the worker is left, round {round}"), || {
            refunction_tests::process::of_user(uid).len() == 1
        });
    }
}

/// Puts a secret in every kind of memory there is.
const HIDE: &str = "
import collections, ctypes, io, json, mmap, os, string, sys, threading
kept = []
def main(args):
    secret = ''.join(args).encode()
    string.held = [secret * count for count in (1, 10, 1000, 100_000)]
    string.text = secret.decode()
    string.number = int.from_bytes(secret, 'little')
    os.environ['SECRET'] = secret.decode()
    area = mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.write(secret * 1000)
    shared = mmap.mmap(-1, 1 << 20)
    shared.write(secret * 1000)
    buffer = ctypes.create_string_buffer(secret * 3000)
    kept.extend([area, shared, buffer])
    def deep(left, local):
        local = ctypes.create_string_buffer(secret)
        return deep(left - 1, local) if left else bytes(local)
    deep(500, None)
    thread = threading.Thread(target=deep, args=(100, None))
    thread.start()
    thread.join()
    threading.Thread(target=lambda: (deep(100, None), threading.Event().wait()), daemon=True).start()
    print(secret.decode())
    gone = [secret * 20 for _ in range(5000)]
    del gone
    return len(secret)
";

/// How often these bytes are in the memory that a process can read.
fn count_in_memory(pid: u32, needle: &[u8]) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("its mappings");
    let memory = File::open(format!("/proc/{pid}/mem")).expect("its memory");
    let mut count = 0;
    for line in maps.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (start, end) = fields[0].split_once('-').expect("a range");
        let parse = |text| u64::from_str_radix(text, 16).expect("an address");
        let (start, end) = (parse(start), parse(end));
        if !fields[1].starts_with('r') || fields.last() == Some(&"[vsyscall]") {
            continue;
        }
        let mut bytes = vec![0; (end - start) as usize];
        // Pages behind the end of a file, and the kernel's own, cannot be read.
        let Ok(length) = memory.read_at(&mut bytes, start) else {
            continue;
        };
        let mut at = 0;
        let bytes = &bytes[..length];
        while let Some(found) = bytes[at..].iter().position(|byte| *byte == needle[0]) {
            at += found;
            if bytes[at..].starts_with(needle) {
                count += 1;
            }
            at += 1;
        }
    }
    count
}

#[test]
fn no_byte_of_a_secret_stays_in_the_process() {
    let secret = "Zq7!kV2#pL9@wX4$mN8%";
    for scan in ["ioctl", "file"] {
        let mut supervisor = Supervisor::start(&["--scan", scan]);
        for _ in 0..10 {
            supervisor.load(HIDE);
            // In pieces: what the channel holds is not the function's doing.
            let pieces: Vec<String> = secret.chars().map(String::from).collect();
            assert_eq!(supervisor.call(&json!(pieces)), secret.len());
            let worker = supervisor.worker();
            assert!(
                count_in_memory(worker, secret.as_bytes()) > 1000,
                "the search finds it"
            );
            let restored = supervisor.restore();
            assert_eq!(restored.method, "rewind", "{}", restored.report);
            assert_eq!(supervisor.worker(), worker);
            assert_eq!(count_in_memory(worker, secret.as_bytes()), 0, "{scan}");
        }
    }
}

/// Draws from everything that is random.
const DRAW: &str = "
import ctypes, os, random, secrets, ssl, tempfile, uuid
libc = ctypes.CDLL(None)
def main(args):
    drawn = {
        'random': random.random(),
        'bits': random.getrandbits(64),
        'shuffle': random.sample(range(1000), 20),
        'new generator': random.Random().random(),
        'system': random.SystemRandom().random(),
        'uuid4': str(uuid.uuid4()),
        'secrets': secrets.token_hex(),
        'urandom': os.urandom(16).hex(),
        'getrandom': os.getrandom(16).hex(),
        'ssl': ssl.RAND_bytes(16).hex(),
        'name': next(tempfile._get_candidate_names()),
        'again': random.random(),
    }
    if hasattr(libc, 'arc4random'):
        drawn['arc4random'] = [libc.arc4random() for _ in range(4)]
    try:
        import numpy
    except ImportError:
        return drawn
    drawn['numpy'] = float(numpy.random.random())
    drawn['numpy generator'] = float(numpy.random.default_rng().random())
    return drawn
";

#[test]
fn no_two_tenants_draw_the_same() {
    let mut seen = BTreeSet::new();
    for method in ["auto", "refork"] {
        let mut supervisor = Supervisor::start(&["--method", method]);
        for round in 0..200 {
            supervisor.load(DRAW);
            let drawn = supervisor.call(&Value::Null);
            let drawn = drawn.as_object().expect("an object");
            assert!(drawn.len() >= 12, "{drawn:?}");
            for (source, value) in drawn {
                assert!(
                    seen.insert(value.to_string()),
                    "{source} gave {value} again, in round {round} with {method}"
                );
            }
            let restored = supervisor.restore();
            let expected = if method == "auto" { "rewind" } else { method };
            assert_eq!(restored.method, expected, "{}", restored.report);
        }
    }
}

#[test]
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
#[test]
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
