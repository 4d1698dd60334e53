//! Descriptors: the tenant's own, and what it does to those that it was given.

use crate::case::Case;
use crate::case::Way::{Refork, Rewind};
use crate::case::{attempt, case, ending};

const DESCRIPTORS: &str = "seen += descriptors()";

const COUNT: &str = "seen.append(len(os.listdir('/proc/self/fd')))";

#[rustfmt::skip]
pub const CASES: &[Case] = &[
    attempt("the size of the table of descriptors", Rewind, "
seen += status('FDSize')
os.dup2(0, 900)
seen = [status('FDSize') == seen]", "[true]"),
    case("the size of the table of descriptors, of a thread with its own", Rewind, "
import threading
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
string.parted = libc.syscall(436, 1000, 0xffffffff, 2)", "seen += status('FDSize')"),
    case("open descriptors", Rewind, "string.held = [open('/etc/passwd'), open(os.devnull, 'w'), os.pipe(), os.memfd_create('x')] + [socket.socket() for _ in range(20)]", DESCRIPTORS),
    case("epoll, eventfd and inotify", Rewind, "string.held = select.epoll(); string.held.register(3); string.event = os.eventfd(5); string.watch = libc.inotify_init(); libc.inotify_add_watch(string.watch, b'/tmp', 0xfff)", DESCRIPTORS),
    case("descriptors that watch each other", Rewind, "
string.held = [select.epoll() for _ in range(4)]
for one, other in zip(string.held, string.held[1:]): one.register(other, select.EPOLLIN | select.EPOLLET)
string.held[3].register(1, select.EPOLLOUT | select.EPOLLET)", DESCRIPTORS),
    case("timers and signals as descriptors", Rewind, "
timer = libc.timerfd_create(1, 0)
libc.timerfd_settime(timer, 0, ctypes.create_string_buffer(struct.pack('<4q', 0, 1000, 0, 1000)), None)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
libc.signalfd(-1, ctypes.create_string_buffer(b'\\xff' * 8), 0)", "seen.append([it[:2] for it in descriptors()])"),
    case("handles of processes", Rewind, "string.held = [os.pidfd_open(os.getpid()), os.pidfd_open(os.getppid())]", "seen.append([it[:2] for it in descriptors()])"),
    case("memory as a file", Rewind, "string.held = os.memfd_create('secret'); os.write(string.held, b'secret' * 10000); string.map = mmap.mmap(string.held, 60000)", "seen.append('memfd:secret' in open('/proc/self/maps').read()); seen += descriptors()"),
    case("memory as a file, sealed", Refork(&["descriptors"]), "string.held = os.memfd_create('secret', os.MFD_ALLOW_SEALING); os.ftruncate(string.held, 4096); fcntl.fcntl(string.held, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)", DESCRIPTORS),
    case("a terminal", Rewind, "string.held = os.openpty(); os.write(string.held[0], b'secret\\n')", "seen.append([it[:2] for it in descriptors()])"),
    case("a descriptor with a high number", Rewind, "os.dup2(0, 250)", DESCRIPTORS),
    case("as many descriptors as there may be", Rewind, "
string.held = []
try:
    while len(string.held) < 1000: string.held.append(os.dup(0))
except OSError: pass", COUNT),
    case("copies of the channel's descriptors", Rewind, "string.held = [os.dup(number) for number in range(5)]", DESCRIPTORS),
    case("a descriptor in flight", Rewind, "
string.held = socket.socketpair()
socket.send_fds(string.held[0], [b'x'], [4, 3, os.memfd_create('secret')])", DESCRIPTORS),
    case("descriptors in flight and nobody at either end", Rewind, "
one, other = socket.socketpair()
socket.send_fds(one, [b'x'], [one.fileno(), other.fileno(), 4])
one.close(); other.close()
string.held = open('/etc/passwd')", DESCRIPTORS),
    case("its output, opened once more", Rewind, "string.held = [open(f'/proc/self/fd/{number}', 'w') for number in (1, 2)] + [open('/dev/stdout', 'w')]", DESCRIPTORS),
    // What it was given.
    case("another standard input", Refork(&["descriptors"]), "read, write = os.pipe(); os.dup2(read, 0); os.write(write, b'secret')", DESCRIPTORS),
    case("another standard output", Refork(&["descriptors"]), "os.dup2(os.open('/dev/null', os.O_WRONLY), 1)", DESCRIPTORS),
    case("standard output and error exchanged", Refork(&["descriptors"]), "
kept = os.dup(1)
os.dup2(2, 1)
os.dup2(kept, 2)
string.exchanged = 1", "seen.append(hasattr(string, 'exchanged'))"),
    case("a closed standard error", Refork(&["descriptors"]), "os.close(2)", DESCRIPTORS),
    case("a closed standard input", Refork(&["descriptors"]), "os.close(0)", DESCRIPTORS),
    case("the image's descriptor closed", Refork(&["descriptors"]), "os.closerange(5, 300)", COUNT),
    case("channel descriptors that do not block", Rewind, "[os.set_blocking(number, False) for number in (1, 2, 4)]", DESCRIPTORS),
    case("output that is appended", Rewind, "fcntl.fcntl(1, fcntl.F_SETFL, os.O_WRONLY | os.O_APPEND); fcntl.fcntl(2, fcntl.F_SETFL, os.O_WRONLY | os.O_DIRECT)", DESCRIPTORS),
    case("output that signals", Rewind, "fcntl.ioctl(1, 0x5452, struct.pack('i', 1))", DESCRIPTORS),
    case("descriptors that others inherit", Rewind, "[os.set_inheritable(number, True) for number in (3, 4)]; os.set_inheritable(1, not os.get_inheritable(1))", DESCRIPTORS),
    case("an owner of a descriptor", Refork(&["descriptors"]), "fcntl.fcntl(3, fcntl.F_SETOWN, os.getpid())", DESCRIPTORS),
    case("a signal of a descriptor", Refork(&["descriptors"]), "fcntl.fcntl(1, fcntl.F_SETSIG, signal.SIGUSR1)", DESCRIPTORS),
    case("the size of a pipe", Refork(&["descriptors"]), "fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 4096)", "seen.append(fcntl.fcntl(1, fcntl.F_GETPIPE_SZ))"),
    case("the mode of a pipe", Refork(&["descriptors"]), "os.fchmod(1, 0o777)", "seen.append(oct(os.fstat(1).st_mode))"),
    case("the times of a pipe", Rewind, "os.utime(1, (7, 7))", "seen.append(os.fstat(1).st_mtime < 100)"),
    case("an attribute of a pipe", Refork(&["files"]), "
try: os.setxattr(1, 'user.secret', b'secret')
except OSError: string.refused = 1", "
try: seen.append(os.getxattr(1, 'user.secret') != b'')
except OSError: seen.append(hasattr(string, 'refused'))"),
    case("a hint about what is written", Refork(&["descriptors"]), "
# F_SET_RW_HINT on what this user owns.
fcntl.fcntl(1, 1036, struct.pack('<Q', 5))", "seen.append(struct.unpack('<Q', fcntl.fcntl(1, 1035, bytes(8)))[0])"),
    case("locks on what was given", Rewind, "
for number in descriptors():
    try: fcntl.flock(number[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError: pass
    try: fcntl.lockf(number[0], fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError: pass", "seen.append([it[5] for it in descriptors()])"),
    case("the offset of the image", Rewind, "
for number in descriptors():
    if number[1].startswith('/memfd:'): os.lseek(number[0], 77, 0)", DESCRIPTORS),
    // The channel itself. The worker cannot be asked what it sees any more.
    attempt("another request pipe", Refork(&["descriptors"]), "
read, write = os.pipe()
os.dup2(read, 3)
os.write(write, struct.pack('<I', 5) + b'I')
seen.append(1)", "[1]"),
    ending("another response pipe", "crashed", "os.dup2(os.open('/dev/null', os.O_WRONLY), 4)", DESCRIPTORS),
    ending("another response pipe, and the first one kept", "timeout", "os.dup(4); os.dup2(os.open('/dev/null', os.O_WRONLY), 4)", DESCRIPTORS),
    ending("a closed response pipe", "crashed", "os.close(4)", DESCRIPTORS),
    ending("every descriptor closed", "crashed", "os.closerange(0, 1000)", DESCRIPTORS),
    attempt("the channel's other ends", Rewind, "
for number, flags in ((3, os.O_WRONLY), (3, os.O_RDWR), (4, os.O_RDONLY), (4, os.O_RDWR)):
    seen.append(error_of(lambda: os.open(f'/proc/self/fd/{number}', flags)))", r#"["EACCES", "EACCES", "EACCES", "EACCES"]"#),
    attempt("the image and the table, to write", Rewind, "
for number in descriptors():
    if not number[1].startswith('/memfd:'): continue
    path = f'/proc/self/fd/{number[0]}'
    for descriptor in (number[0], os.open(path, os.O_RDWR)):
        seen.append(error_of(lambda: os.write(descriptor, b'x')))
        seen.append(error_of(lambda: os.ftruncate(descriptor, 0)))
        seen.append(error_of(lambda: os.ftruncate(descriptor, 1 << 40)))
        seen.append(error_of(lambda: mmap.mmap(descriptor, 4096)))
# Not one of them may go well.
seen = [len(seen) >= 8, None in seen]", "[true, false]"),
];
