//! What the C library keeps in its own memory.

use crate::case::Case;
use crate::case::Way::Rewind;
use crate::case::case;

#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("the C library's generator", Rewind, "libc.srand(99); libc.rand()", "seen.append(libc.rand())"),
    case("the C library's other generator", Rewind, "libc.srand48(5)", "seen.append(libc.lrand48())"),
    case("the C library's last error", Rewind, "ctypes.set_errno(77)", "seen.append(ctypes.get_errno())"),
    case("the C library's locale", Rewind, "libc.setlocale.restype = ctypes.c_char_p; libc.setlocale(0, b'C.UTF-8'); libc.setlocale(6, b'C'); libc.setlocale(4, b'POSIX')", "libc.setlocale.restype = ctypes.c_char_p; seen += [libc.setlocale(it, None).decode() for it in range(7)]"),
    case("the pointer to the environment", Rewind, "
string.held = (ctypes.c_char_p * 2)(b'SECRET=1', None)
ctypes.c_void_p.in_dll(libc, 'environ').value = ctypes.addressof(string.held)", "seen += [libc.getenv(b'SECRET') is None, libc.getenv(b'PATH') is None]"),
    case("what runs at exit", Rewind, "
string.held = ctypes.CFUNCTYPE(None)(lambda: os._exit(77))
libc.__cxa_atexit(string.held, None, None)", "
child = os.fork()
if child == 0: libc.exit(0)
seen.append(os.waitpid(child, 0)[1])"),
    case("what runs at a fork", Rewind, "
string.held = ctypes.CFUNCTYPE(None)(lambda: setattr(string, 'forked', 1))
libc.__register_atfork(string.held, None, None, None)", "
child = os.fork()
if child == 0: os._exit(0)
os.waitpid(child, 0)
seen.append(hasattr(string, 'forked'))"),
    case("the buffer of a stream", Rewind, "
string.held = ctypes.create_string_buffer(54321)
libc.setvbuf(ctypes.c_void_p.in_dll(libc, 'stdout'), string.held, 0, ctypes.c_size_t(54321))", "libc.__fbufsize.restype = ctypes.c_size_t; seen.append(libc.__fbufsize(ctypes.c_void_p.in_dll(libc, 'stdout')))"),
    case("a stream of the C library's", Rewind, "
libc.fopen.restype = libc.fmemopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(libc.fopen(b'/etc/passwd', b'r'))
libc.fgetc(stream)", "seen.append(len(descriptors()))"),
    case("how far options were read", Rewind, "ctypes.c_int.in_dll(libc, 'optind').value = 77; ctypes.c_int.in_dll(libc, 'opterr').value = 0", "seen += [ctypes.c_int.in_dll(libc, it).value for it in ('optind', 'opterr')]"),
    case("where a string was cut", Rewind, "
string.held = ctypes.create_string_buffer(b'a,secret,c')
libc.strtok(string.held, b',')", "
# Where nothing was cut yet, this is a fault.
child = os.fork()
if child == 0: os._exit(1 if libc.strtok(None, b',') else 2)
seen.append(os.waitpid(child, 0)[1] & ~128)"),
    case("a buffer that functions share", Rewind, "
libc.ctime.restype = libc.inet_ntoa.restype = ctypes.c_void_p
hint = [libc.ctime(ctypes.byref(ctypes.c_long(0)))]", "seen += [ctypes.string_at(it).decode() for it in hint or []] or ['']"),
    case("the allocator's settings", Rewind, "libc.mallopt(-6, 0xaa)", "seen.append(ctypes.string_at(libc.malloc(4000), 16) == bytes([0x55]) * 16)"),
    case("the allocator's arenas", Rewind, "
string.held = [libc.malloc(30_000) for _ in range(2000)]
[ctypes.memset(it, 0x53, 30_000) for it in string.held]
[libc.free(ctypes.c_void_p(it)) for it in string.held[::2]]
libc.malloc_trim(0)", "
class Info(ctypes.Structure): _fields_ = [(name, ctypes.c_size_t) for name in ('arena', 'ordblks', 'smblks', 'hblks', 'hblkhd', 'usmblks', 'fsmblks', 'uordblks', 'fordblks', 'keepcost')]
libc.mallinfo2.restype = Info
seen.append(libc.mallinfo2().arena >> 20)"),
    case("a library", Rewind, "string.held = ctypes.CDLL('libanl.so.1', mode=ctypes.RTLD_GLOBAL)", "seen.append('libanl' in open('/proc/self/maps').read())"),
    case("a thread's key", Rewind, "libc.pthread_key_create(ctypes.byref(ctypes.c_uint()), None)", "
key = ctypes.c_uint()
libc.pthread_key_create(ctypes.byref(key), None)
libc.pthread_key_delete(key)
seen.append(key.value)"),
    case("the program's name", Rewind, "string.held = ctypes.c_char_p(b'secret'); ctypes.c_char_p.in_dll(libc, 'program_invocation_short_name').value = b'secret'", "seen.append(ctypes.c_char_p.in_dll(libc, 'program_invocation_short_name').value.decode())"),
    case("the program's arguments", Rewind, "ctypes.memset(int(open('/proc/self/stat').read().rsplit(')', 1)[1].split()[48 - 3]), ord('S'), 6)", "seen.append(open('/proc/self/cmdline').read())"),
    case("an entry of the offset table", Rewind, "
# Relocated once and read-only since: made writable, changed, made read-only again.
address = int(open('/proc/self/stat').read().rsplit(')', 1)[1].split()[45 - 3]) & ~4095
assert libc.mprotect(ctypes.c_void_p(address), 4096, 3) == 0
ctypes.c_long.from_address(address + 8).value ^= 0x5ec
assert libc.mprotect(ctypes.c_void_p(address), 4096, 1) == 0", "
address = int(open('/proc/self/stat').read().rsplit(')', 1)[1].split()[45 - 3]) & ~4095
seen.append(ctypes.string_at(address, 64).hex())"),
];
