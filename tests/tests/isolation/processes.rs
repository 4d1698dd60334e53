//! Threads, and processes of every descent.

use libtest_mimic::Trial;
use refunction_tests::supervisor::Supervisor;
use serde_json::Value;

use crate::case::Case;
use crate::case::Way::{Refork, Rewind};
use crate::case::{attempt, case};
use crate::trial;

const PROCESSES: &str = "seen += processes()";

const THREADS: &str = "seen += threads()";

#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("a thread", Rewind, "threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()", THREADS),
    case("twenty threads that never rest", Rewind, "
def busy():
    while True: time.sleep(0)
for _ in range(20): threading.Thread(target=busy, daemon=True).start()", THREADS),
    case("a thread pool", Rewind, "string.held = concurrent.futures.ThreadPoolExecutor(4); [string.held.submit(time.sleep, 0.01) for _ in range(9)]", THREADS),
    case("a timer of threading's", Rewind, "threading.Timer(0.1, lambda: setattr(string, 'fired', 1)).start()", "seen.append([len(os.listdir('/proc/self/task')), hasattr(string, 'fired')])"),
    case("threads that start threads", Rewind, "
def more(left):
    if left: threading.Thread(target=more, args=(left - 1,), daemon=True).start()
    time.sleep(1000)
more_started = threading.Thread(target=more, args=(30,), daemon=True).start()
while len(os.listdir('/proc/self/task')) < 20: time.sleep(0.001)", THREADS),
    case("threads that come and go without end", Rewind, "
def again():
    threading.Thread(target=again, daemon=True).start()
for _ in range(3): threading.Thread(target=again, daemon=True).start()
string.held = threading.Thread(target=time.sleep, args=(1000,), daemon=True); string.held.start()", "seen.append(len(os.listdir('/proc/self/task')) > 1)"),
    case("a thread that blocks every signal", Rewind, "
def deaf():
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    string.deaf = 1
    while True: signal.sigtimedwait([signal.SIGUSR1], 1000)
threading.Thread(target=deaf, daemon=True).start()
while not hasattr(string, 'deaf'): time.sleep(0.001)", THREADS),
    case("a watchdog of faulthandler's", Rewind, "faulthandler.dump_traceback_later(1000, file=open(os.devnull, 'w'))", "seen.append(len(os.listdir('/proc/self/task')))"),
    case("a thread that waits in the kernel", Rewind, "
read, write = os.pipe()
threading.Thread(target=os.read, args=(read, 1), daemon=True).start()
threading.Thread(target=subprocess.run, args=(['/bin/sleep', '1000'],), daemon=True).start()
while len(processes()) < 2: time.sleep(0.001)", THREADS),
    case("a subprocess", Rewind, "subprocess.Popen(['/bin/sleep', '1000'])", PROCESSES),
    case("a shell with a pipeline", Rewind, "subprocess.Popen('sleep 1000 | sleep 1000 & sleep 1000 & sleep 1000', shell=True)", "seen.append(len(processes()))"),
    case("a process that ignores every signal", Rewind, "
read, write = os.pipe()
if os.fork() == 0:
    for number in set(range(1, 65)) - {9, 19, 32, 33}: signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    os.write(write, b'x')
    while True: time.sleep(1000)
os.read(read, 1)", PROCESSES),
    case("a stopped process", Rewind, "
child = subprocess.Popen(['/bin/sleep', '1000'])
os.kill(child.pid, signal.SIGSTOP)
os.waitpid(child.pid, os.WUNTRACED)", PROCESSES),
    case("a daemon", Rewind, "
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(write, b'x')
        time.sleep(1000)
    os._exit(0)
os.read(read, 1)", PROCESSES),
    case("orphans of orphans", Rewind, "
read, write = os.pipe()
def beget(left):
    if os.fork() == 0:
        if left: beget(left - 1)
        else:
            os.write(write, b'x')
            time.sleep(1000)
    if left != 12: os._exit(0)
beget(12)
os.read(read, 1)", PROCESSES),
    case("a leader of a session and its group", Rewind, "
string.held = subprocess.Popen('sleep 1000 & sleep 1000 & wait', shell=True, start_new_session=True)
while len(processes()) < 4: time.sleep(0.001)", PROCESSES),
    case("a zombie", Rewind, "
for _ in range(3):
    if os.fork() == 0: os._exit(0)
os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)", PROCESSES),
    case("a hundred zombies", Rewind, "
for _ in range(100):
    if os.fork() == 0: os._exit(0)
os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)", PROCESSES),
    case("processes that fork without end", Rewind, "
if os.fork() == 0:
    while True:
        if os.fork(): time.sleep(0.002); os._exit(0)
time.sleep(0.02)", PROCESSES),
    case("a bomb of sixty processes", Rewind, "
left = 60
read, write = os.pipe()
os.write(write, b'x' * left)
os.set_blocking(read, False)
if os.fork() == 0:
    # Each byte is the right to one process more.
    while True:
        try: os.read(read, 1)
        except BlockingIOError: break
        os.fork()
    time.sleep(1000)
while len(processes()) < 40: time.sleep(0.001)", "seen.append(len(processes()) > 1)"),
    case("a process that execs again and again", Rewind, "
subprocess.Popen(['/bin/sh', '-c', 'exec /bin/sh -c \"$0\" \"$0\"', 'exec /bin/sh -c \"$0\" \"$0\"'])", PROCESSES),
    case("a child that shares the memory", Rewind, "
# CLONE_VM | CLONE_UNTRACED is refused; CLONE_VM | SIGCHLD with a stack of its own.
stack = ctypes.create_string_buffer(1 << 16)
string.held = stack
# pause in a loop, from the top of its own stack.
code = bytes.fromhex('b8220000000f05ebf7')
area = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 7)
area.write(code)
string.area = area
start = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(area)))
libc.clone.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
assert libc.clone(ctypes.cast(start, ctypes.c_void_p), ctypes.addressof(stack) + 60000 & ~15, 0x100 | 17, None) > 0", PROCESSES),
    case("a sibling", Rewind, "
# CLONE_PARENT: the supervisor's child, not this process's. Nothing but pause is safe in it.
stack = string.held = ctypes.create_string_buffer(1 << 16)
area = string.area = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 7)
area.write(bytes.fromhex('b8220000000f05ebf7'))
libc.clone.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
start = ctypes.addressof(ctypes.c_char.from_buffer(area))
assert libc.clone(start, ctypes.addressof(stack) + 60000 & ~15, 0x8000 | 17, None) > 0", PROCESSES),
    case("a sibling that shares memory, files and handlers", Rewind, "
stack = string.held = ctypes.create_string_buffer(1 << 16)
area = string.area = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 7)
area.write(bytes.fromhex('b8220000000f05ebf7'))
libc.clone.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
start = ctypes.addressof(ctypes.c_char.from_buffer(area))
assert libc.clone(start, ctypes.addressof(stack) + 60000 & ~15, 0x8000 | 0x100 | 0x200 | 0x400 | 0x800 | 17, None) > 0", PROCESSES),
    case("a child that signals nobody when it ends", Rewind, "
stack = string.held = ctypes.create_string_buffer(1 << 16)
area = string.area = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 7)
area.write(bytes.fromhex('b8220000000f05ebf7'))
libc.clone.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
start = ctypes.addressof(ctypes.c_char.from_buffer(area))
assert libc.clone(start, ctypes.addressof(stack) + 60000 & ~15, 0, None) > 0", PROCESSES),
    case("a child of vfork that has not let go", Rewind, "
# A thread of this process stands still until its child executes or ends.
code = 'b83a0000000f0585c07509b8220000000f05ebf7c3'
string.thread = threading.Thread(target=run, args=(code, b''), daemon=True)
string.thread.start()
while len(processes()) < 2: time.sleep(0.001)", PROCESSES),
    case("a process with other files for the same numbers", Rewind, "
read, write = os.pipe()
if os.fork() == 0:
    os.closerange(0, read)
    os.write(write, b'x')
    time.sleep(1000)
os.read(read, 1)", PROCESSES),
    case("a helper of the C library's", Rewind, "
libc.popen.restype = ctypes.c_void_p
string.held = libc.popen(b'sleep 1000', b'r')
os.posix_spawn('/bin/sleep', ['sleep', '1000'], {})", PROCESSES),
    case("a subreaper with adopted children", Rewind, "
assert libc.prctl(36, 1, 0, 0, 0) == 0
read, write = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.write(write, b'x')
        time.sleep(1000)
    os._exit(0)
os.read(read, 1)
os.wait()", PROCESSES),
    case("more processes than one rewind reaps", Refork(&["children"]), "
# A loop of vfork, exit and wait.
run('53bb68100000b83a0000000f0585c0750931ffb83c0000000f05bfffffffff31f631d24531d2b83d0000000f05ffcb75d55bc3', b'')
string.many = 1", "seen.append(hasattr(string, 'many'))"),
    attempt("processes of other kinds", Rewind, "
for flags in (0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000, 0x02000000, 0x00800000):
    seen.append(call('clone', flags | 17, 0, 0, 0, 0))
seen.append(call('clone3', 0, 0))", r#"["EPERM", "EPERM", "EPERM", "EPERM", "EPERM", "EPERM", "EPERM", "EPERM", "ENOSYS"]"#),
];

pub fn trials() -> Vec<Trial> {
    vec![trial(
        "no_child_of_a_killed_process_is_forgotten",
        no_child_of_a_killed_process_is_forgotten,
    )]
}

/// Killed in the middle of a fork, a process leaves a child that nobody was told of.
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
