import asyncio, atexit, builtins, concurrent.futures, ctypes, decimal, errno, faulthandler
import fcntl, gc, json, locale, logging, mmap, os, pathlib, resource, select, signal, socket
import stat, string, struct, subprocess, sys, threading, time, warnings, weakref

libc = ctypes.CDLL(None, use_errno=True)
libm = ctypes.CDLL('libm.so.6')
libc.getenv.restype = libc.sbrk.restype = libc.mmap.restype = libc.malloc.restype = ctypes.c_void_p
libc.mremap.restype = ctypes.c_void_p
tag = @TAG
WRITABLE = [place for place in ('/tmp', '/var/tmp', '/dev/shm', '/dev/mqueue')
            if os.access(place, os.W_OK)]

# Names for system calls where the C library has none, or hides what they do.
CALLS = dict(mmap=9, mprotect=10, munmap=11, brk=12, ioctl=16, mremap=25, madvise=28, shmget=29, shmat=30,
    getpid=39, clone=56, fork=57, vfork=58, kill=62, semget=64, msgget=68, fcntl=72, ptrace=101, setsid=112,
    setfsuid=122, setfsgid=123, capset=126, sigaltstack=131, personality=135, mlockall=151, modify_ldt=154,
    prctl=157, arch_prctl=158, chroot=161, mount=165, tkill=200, set_thread_area=205, remap_file_pages=216,
    set_tid_address=218, timer_create=222, timer_settime=223, tgkill=234, mbind=237, set_mempolicy=238,
    mq_open=240, keyctl=250, ioprio_set=251, ioprio_get=252, unshare=272, set_robust_list=273,
    get_robust_list=274, vmsplice=278, preadv=295, rt_tgsigqueueinfo=297, perf_event_open=298,
    prlimit64=302, open_by_handle_at=304, setns=308, process_vm_readv=310, process_vm_writev=311, kcmp=312,
    sched_setattr=314, sched_getattr=315, seccomp=317, memfd_create=319, bpf=321, userfaultfd=323,
    membarrier=324, mlock2=325, pkey_mprotect=329, pkey_alloc=330, rseq=334, pidfd_send_signal=424,
    io_uring_setup=425, pidfd_open=434, clone3=435, close_range=436, pidfd_getfd=438, process_madvise=440,
    landlock_create_ruleset=444, landlock_add_rule=445, landlock_restrict_self=446, memfd_secret=447,
    process_mrelease=448, set_mempolicy_home_node=450, cachestat=451, map_shadow_stack=453, mseal=462)

def call(name, *arguments):
    """A system call: its result, or the error's name."""
    ctypes.set_errno(0)
    numbers = [it if isinstance(it, (bytes, ctypes.Array, ctypes.Structure)) or hasattr(it, '_obj') else ctypes.c_long(it)
               for it in arguments]
    result = libc.syscall(ctypes.c_long(CALLS[name]), *numbers)
    return errno.errorcode.get(ctypes.get_errno(), result) if result == -1 else result

def error_of(action):
    """What an action fails with; nothing if it does not."""
    try: action()
    except OSError as error: return errno.errorcode.get(error.errno)

def status(*names):
    """Lines of what the kernel says of this process."""
    return [line.split() for line in open('/proc/self/status') if line.split(':')[0] in names]

SIGNALS = ('ShdPnd', 'SigPnd', 'SigBlk', 'SigIgn', 'SigCgt')

def files():
    """All that this user owns where everybody may write, to any depth."""
    found = []
    for place in WRITABLE:
        for entry in os.scandir(os.fsencode(place)):
            try: is_mine = entry.stat(follow_symlinks=False).st_uid == os.getuid()
            except OSError: continue
            if not is_mine: continue
            found.append(repr(entry.path))
            for directory, directories, names in os.walk(entry.path) if entry.is_dir(follow_symlinks=False) else ():
                found += [repr(os.path.join(directory, name)) for name in directories + names]
    return sorted(found)

def descriptors():
    found = []
    for number in range(1200):
        try: kind = os.readlink(f'/proc/self/fd/{number}')
        except OSError: continue
        info = dict(line.split(':\t', 1) for line in open(f'/proc/self/fdinfo/{number}').read().splitlines() if ':\t' in line)
        # A refork brings other pipes, and another image's table.
        found.append([number, kind.split('[')[0], os.get_inheritable(number), info['flags'], info['pos'],
                      'lock' in info, fcntl.fcntl(number, fcntl.F_GETOWN), fcntl.fcntl(number, fcntl.F_GETSIG)])
    return found

def status_of(pid):
    """What the kernel says of a process; nothing of one that is gone by now."""
    try: return open(f'/proc/{pid}/status').read()
    except OSError: return ''

def processes():
    mine = str(os.getuid())
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        text = status_of(pid)
        # One that is dead and waits to be reaped, which takes a moment, holds nothing.
        if text and 'State:\tZ' not in text and text.split('\nUid:\t')[1].split()[0] == mine:
            found.append(text.split()[1])
    found.sort()
    # WNOWAIT: a look that reaps would change what the next look sees.
    try: found.append(str(os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | 0x40000000)))
    except ChildProcessError: pass
    return found

def threads():
    return [len(os.listdir('/proc/self/task')), len(threading.enumerate())]

def mapping(address):
    """What smaps says of the mapping at an address."""
    found = {}
    inside = False
    for line in open('/proc/self/smaps'):
        first = line.split()[0]
        if '-' in first and not first.endswith(':'):
            start, end = (int(it, 16) for it in first.split('-'))
            inside = start <= address < end
            if inside: found['Rights'] = line.split()[1]
        elif inside:
            name, value = line.split(':', 1)
            found[name] = value.split()
    return found

def run(code, data):
    """Runs machine code on a buffer that holds this; what the buffer holds after."""
    area = mmap.mmap(-1, 8192, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    area.write(bytes.fromhex(code))
    buffer = ctypes.create_string_buffer(bytes(data), 4096)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(start)(ctypes.addressof(buffer))
    return buffer.raw

def vector_moves(opcode, step):
    """Moves between memory and every vector register that there is."""
    flags = open('/proc/cpuinfo').read().split('\nflags')[1].split('\n')[0].split()
    code = b''
    for number in range(16):
        prefix = b'\xc5' + (b'\xfe' if number < 8 else b'\x7e')
        code += prefix + bytes([opcode, 0x87 | (number & 7) << 3]) + struct.pack('<I', number * step)
    for number in range(16, 32) if 'avx512f' in flags else ():
        prefix = b'\x62' + (b'\xe1' if number < 24 else b'\x61') + b'\xfe\x48'
        code += prefix + bytes([opcode, 0x87 | (number & 7) << 3]) + struct.pack('<I', number * step)
    return (code + b'\xc3').hex()

def fill_vectors(key):
    run(vector_moves(0x6f, 0), key * 4)

def vectors():
    return run(vector_moves(0x7f, 64), b'')

# A page of the template's memory, in which nothing is written while a function runs.
PAGE = id(string.ascii_letters) & ~4095

def change():
    hint = None
@CHANGE
    return hint

def attempt():
    seen = []
@CHANGE
    return seen

def look(hint):
    seen = []
@LOOK
    return seen

def main(args):
    if args == 'change': return change()
    if args == 'attempt': return attempt()
    return look(args['hint'])
