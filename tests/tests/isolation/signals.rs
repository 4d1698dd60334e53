//! Signals and timers.

use crate::case::Case;
use crate::case::Way::{Refork, Rewind};
use crate::case::case;

const STATUS: &str = "seen += status(*SIGNALS)";

#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("signal handlers", Rewind, "
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
signal.signal(40, signal.SIG_IGN)", STATUS),
    case("a handler for every signal", Rewind, "
for number in set(range(1, 65)) - {9, 19, 32, 33}: signal.signal(number, lambda *_: None)", STATUS),
    case("faults that are ignored", Rewind, "[signal.signal(it, signal.SIG_IGN) for it in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS)]", STATUS),
    case("children that nobody waits for", Rewind, "
# SA_NOCLDWAIT | SA_NOCLDSTOP, without a handler.
assert libc.sigaction(17, ctypes.create_string_buffer(struct.pack('<Q', 0) + bytes(128) + struct.pack('<iQ', 3, 0)), None) == 0", "
child = os.fork()
if child == 0: os._exit(3)
try: seen.append(os.waitpid(child, 0)[1])
except ChildProcessError: seen.append(None)"),
    case("a signal mask and pending signals", Rewind, "
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGUSR2, 41])
for number in (signal.SIGUSR1, signal.SIGUSR2, 41, 41): os.kill(os.getpid(), number)
signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)", STATUS),
    case("every signal blocked and pending", Rewind, "
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
for number in set(range(1, 65)) - {5, 9, 18, 19, 20, 21, 22, 32, 33}: os.kill(os.getpid(), number)", STATUS),
    case("a trap that is pending", Rewind, "
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTRAP])
os.kill(os.getpid(), signal.SIGTRAP)", STATUS),
    case("hundreds of signals with values", Rewind, "
signal.pthread_sigmask(signal.SIG_BLOCK, [45])
for number in range(300): libc.sigqueue(os.getpid(), 45, ctypes.c_void_p(0x5ec0000 + number))", STATUS),
    case("signals that another process sends without end", Rewind, "
signal.signal(signal.SIGUSR1, lambda *_: None)
target = os.getpid()
if os.fork() == 0:
    while True: os.kill(target, signal.SIGUSR1)
time.sleep(0.01)", "seen += processes()"),
    case("an alternate stack", Rewind, "faulthandler.enable(open(os.devnull, 'w'))", "seen += status(*SIGNALS); seen.append(faulthandler.is_enabled())"),
    case("an alternate stack of its own", Rewind, "
string.held = ctypes.create_string_buffer(65536)
assert call('sigaltstack', struct.pack('<QiiQ', ctypes.addressof(string.held), 0, 0, 65536), 0) == 0", "
stack = ctypes.create_string_buffer(24)
call('sigaltstack', 0, stack)
seen.append(struct.unpack('<QiiQ', stack.raw)[1:2] + struct.unpack('<QiiQ', stack.raw)[3:])"),
    case("a wake-up descriptor", Rewind, "r, w = os.pipe(); os.set_blocking(w, False); signal.set_wakeup_fd(w)", "old = signal.set_wakeup_fd(-1); seen.append(old); signal.set_wakeup_fd(old) if old >= 0 else None"),
    case("calls that signals interrupt", Rewind, "signal.signal(signal.SIGALRM, lambda *_: None); signal.siginterrupt(signal.SIGALRM, True)", STATUS),
    case("an interval timer that would fire", Rewind, "signal.setitimer(signal.ITIMER_REAL, 0.3); signal.setitimer(signal.ITIMER_VIRTUAL, 100); signal.setitimer(signal.ITIMER_PROF, 100)", "
seen += [bool(signal.getitimer(which)[0]) for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)]
# Long enough for it to have fired, where there is none any more.
if not seen[0]: time.sleep(0.35)"),
    case("an interval timer that fires all the time", Rewind, "signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)", "seen.append(bool(signal.getitimer(signal.ITIMER_REAL)[1]))"),
    case("a timer of processor time", Rewind, "signal.signal(signal.SIGPROF, signal.SIG_IGN); signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)", "seen.append(bool(signal.getitimer(signal.ITIMER_PROF)[1]))"),
    case("an alarm", Rewind, "signal.alarm(100)", "left = signal.alarm(0); seen.append(left > 0); signal.alarm(left)"),
    case("a POSIX timer", Refork(&["timers"]), "libc.timer_create(1, None, ctypes.byref(ctypes.c_void_p()))", "seen.append(open('/proc/self/timers').read())"),
    case("a POSIX timer that fires after the restore", Refork(&["timers"]), "
timer = ctypes.c_void_p()
assert libc.timer_create(1, None, ctypes.byref(timer)) == 0
libc.timer_settime(timer, 0, struct.pack('<4q', 0, 0, 0, 300_000_000), None)", "
seen.append(open('/proc/self/timers').read())
if not seen[0]: time.sleep(0.35)"),
    case("a POSIX timer that runs a thread", Refork(&["timers"]), "
string.held = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: setattr(string, 'fired', 1))
event = struct.pack('<qii', 0, 0, 2) + struct.pack('<q', ctypes.cast(string.held, ctypes.c_void_p).value) + bytes(64)
timer = ctypes.c_void_p()
assert libc.timer_create(1, ctypes.create_string_buffer(event), ctypes.byref(timer)) == 0
libc.timer_settime(timer, 0, struct.pack('<4q', 0, 20_000_000, 0, 20_000_000), None)", "seen.append(len(os.listdir('/proc/self/task'))); seen.append(open('/proc/self/timers').read().count('ID'))"),
    case("a timer of processor time that is POSIX's", Refork(&["timers"]), "
timer = ctypes.c_void_p()
assert libc.timer_create(2, None, ctypes.byref(timer)) == 0
libc.timer_settime(timer, 0, struct.pack('<4q', 0, 0, 100, 0), None)", "seen.append(open('/proc/self/timers').read())"),
];
