//! Mappings, advice, locks, the break and the stack.

use crate::case::Case;
use crate::case::Way::{Refork, Rewind};
use crate::case::{attempt, case};

const ADVICE: &[&str] = &["memory_advice"];
const MAPPINGS: &[&str] = &["mappings"];

/// The kernel's marks of a page of the template's.
const FLAGS: &str =
    "seen.append([it for it in mapping(PAGE)['VmFlags'] if it not in ('ac', 'sd')])";

const RIGHTS: &str = "seen.append(mapping(PAGE)['Rights'])";

const SIZE: &str = "seen += [int(line.split()[1]) // 16384 for line in open('/proc/self/status') if line.startswith('VmSize')]";

const TRIED: &str = "seen.append(hasattr(string, 'tried'))";

#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("64 MB of mappings", Rewind, "
string.shared = mmap.mmap(-1, 32 << 20); string.shared.write(b'secret' * 5_000_000)
string.private = mmap.mmap(-1, 32 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); string.private.write(b'secret' * 5_000_000)", SIZE),
    case("a file's mapping", Rewind, "string.held = mmap.mmap(os.open('/etc/passwd', os.O_RDONLY), 0, prot=mmap.PROT_READ)", "seen.append('/etc/passwd' in open('/proc/self/maps').read())"),
    case("thousands of mappings", Rewind, "string.held = [mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 1 + number % 2 * 2) for number in range(5000)]", "seen.append(open('/proc/self/maps').read().count('\\n') > 4000)"),
    case("memory that many may write and run", Rewind, "string.held = [mmap.mmap(-1, 1 << 20, flags, 7) for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE)]", "seen.append(open('/proc/self/maps').read().count('rwx'))"),
    case("memory without reserve", Rewind, "libc.mmap(None, ctypes.c_long(1 << 38), 3, 0x4022, -1, ctypes.c_long(0)); string.held = 1", SIZE),
    case("protection of memory that was there", Rewind, "libc.mprotect(ctypes.c_void_p(PAGE), 4096, 7)", RIGHTS),
    case("memory that cannot be written any more", Rewind, "libc.mprotect(ctypes.c_void_p(PAGE), 4096, 1)", RIGHTS),
    case("protection changed and changed back", Rewind, "
assert libc.mprotect(ctypes.c_void_p(PAGE), 4096, 1) == 0 and libc.mprotect(ctypes.c_void_p(PAGE), 4096, 3) == 0
ctypes.memset(id(string.ascii_lowercase) + object.__basicsize__ + 32, ord('Y'), 3)", "seen.append(string.ascii_lowercase)"),
    case("a list of mappings cut to shreds", Rewind, "
# Every other page of the template's heap.
string.tried = 1
heap = max((line.split() for line in open('/proc/self/maps') if 'memfd' in line and ' rw-p ' in line), key=lambda it: int(it[0].split('-')[1], 16) - int(it[0].split('-')[0], 16))
start, end = (int(it, 16) for it in heap[0].split('-'))
for page in range(start, end, 8192): libc.mprotect(ctypes.c_void_p(page), 4096, 7)", TRIED),
    attempt("code of a library", Rewind, "
address = ctypes.cast(libc.getppid, ctypes.c_void_p).value
for rights in (3, 7): seen.append([libc.mprotect(ctypes.c_void_p(address & ~4095), 4096, rights), ctypes.get_errno()])
seen.append(mapping(address)['Rights'])", r#"[[-1, 13], [-1, 13], "r-xs"]"#),
    case("memory in the place of a library's code", Refork(MAPPINGS), "
address = ctypes.cast(libm.j0, ctypes.c_void_p).value & ~4095
kept = ctypes.string_at(address, 4096)
assert libc.mmap(ctypes.c_void_p(address), ctypes.c_long(4096), 7, 0x32, -1, ctypes.c_long(0)) == address
ctypes.memmove(address, kept, 4096)", "seen.append(mapping(ctypes.cast(libm.j0, ctypes.c_void_p).value)['Rights'])"),
    case("a library's code that is gone", Refork(MAPPINGS), "assert libc.munmap(ctypes.c_void_p(ctypes.cast(libm.j0, ctypes.c_void_p).value & ~4095), 4096) == 0", "seen.append(mapping(ctypes.cast(libm.j0, ctypes.c_void_p).value) == {})"),
    case("memory in the place of the template's", Rewind, "
kept = ctypes.string_at(PAGE, 4096)
assert libc.mmap(ctypes.c_void_p(PAGE), ctypes.c_long(4096), 3, 0x32, -1, ctypes.c_long(0)) == PAGE
ctypes.memmove(PAGE, kept, 4096)", "seen.append('memfd' in next(line for line in open('/proc/self/maps') if int(line.split('-')[0], 16) <= PAGE < int(line.split('-')[1].split()[0], 16)))"),
    case("memory without reserve in the place of the template's", Rewind, "
# One that is not the image's, and so can be replaced by one just like it.
page = hint = max(int(line.split('-')[0], 16) for line in open('/proc/self/maps') if line.split()[1:] == ['rw-p', '00000000', '00:00', '0'])
kept = ctypes.string_at(page, 4096)
assert libc.mmap(ctypes.c_void_p(page), ctypes.c_long(4096), 3, 0x4032, -1, ctypes.c_long(0)) == page
ctypes.memmove(page, kept, 4096)", "seen.append(hint is not None and 'nr' in mapping(hint)['VmFlags'])")
        .known_hole("nr]", "the mapping list does not show it"),
    case("shared memory in the place of the template's", Rewind, "
kept = ctypes.string_at(PAGE, 4096)
assert libc.mmap(ctypes.c_void_p(PAGE), ctypes.c_long(4096), 3, 0x31, -1, ctypes.c_long(0)) == PAGE
ctypes.memmove(PAGE, kept, 4096)", RIGHTS),
    case("memory in the place of the stack", Refork(MAPPINGS), "
low = next(int(line.split('-')[0], 16) for line in open('/proc/self/maps') if '[stack]' in line)
assert libc.mmap(ctypes.c_void_p(low), ctypes.c_long(4096), 3, 0x32, -1, ctypes.c_long(0)) == low
string.tried = 1", TRIED),
    case("memory moved away", Rewind, "
kept = ctypes.string_at(PAGE, 4096)
moved = libc.mremap(ctypes.c_void_p(PAGE), ctypes.c_long(4096), ctypes.c_long(4096), 1 | 2, ctypes.c_void_p(0x5ec000000000))
assert moved == 0x5ec000000000
assert libc.mmap(ctypes.c_void_p(PAGE), ctypes.c_long(4096), 3, 0x32, -1, ctypes.c_long(0)) == PAGE
ctypes.memmove(PAGE, kept, 4096)", "seen.append('5ec000000000' in open('/proc/self/maps').read())"),
    case("memory moved away that stays", Rewind, "
assert libc.mremap(ctypes.c_void_p(PAGE), ctypes.c_long(4096), ctypes.c_long(4096), 1 | 2 | 4, ctypes.c_void_p(0x5ec000000000)) == 0x5ec000000000
kept = ctypes.string_at(0x5ec000000000, 4096)
ctypes.memmove(PAGE, kept, 4096)", "seen.append('5ec000000000' in open('/proc/self/maps').read())"),
    case("memory shrunk and grown", Rewind, "
held = libc.mmap(None, ctypes.c_long(1 << 20), 3, 0x22, -1, ctypes.c_long(0))
libc.mremap(ctypes.c_void_p(held), ctypes.c_long(1 << 20), ctypes.c_long(4096), 0)
string.held = libc.mremap(ctypes.c_void_p(held), ctypes.c_long(4096), ctypes.c_long(1 << 26), 1)", SIZE),
    case("heap grown and freed", Rewind, "
held = [bytes(50_000) for _ in range(1000)]
del held
libc.sbrk(ctypes.c_long(50_000_000))", "seen.append(libc.sbrk(ctypes.c_long(0)) // 4_000_000)"),
    case("the break moved down", Rewind, "
libc.sbrk(ctypes.c_long(1 << 20))
hint = libc.sbrk(ctypes.c_long(-(1 << 20) - 4096))", "seen.append(libc.sbrk(ctypes.c_long(0)) & 0xfffffff)"),
    case("a deep stack", Rewind, "
sys.setrecursionlimit(10**6)
def deep(left): return [left] and max([left, deep(left - 1)]) if left else 0
deep(5000)
string.deep = 1", "seen.append(hasattr(string, 'deep'))"),
    case("a stack of megabytes", Rewind, "
# sub rsp, 7 MB; mov byte [rsp], 0x53; add rsp, 7 MB; ret.
run('4881ec00007000c6042453' + '4881c400007000c3', b'')", "seen.append(next(int(line.split('-')[1].split()[0], 16) - int(line.split('-')[0], 16) for line in open('/proc/self/maps') if '[stack]' in line) > 6 << 20)"),
    case("memory that was not to be had", Rewind, "
for size in (1 << 46, 1 << 44):
    try: bytearray(size)
    except MemoryError: string.tried = 1", TRIED),
    case("memory that faults, and a handler", Rewind, "
# The fault is a child's; the parent goes on.
child = os.fork()
if child == 0: ctypes.string_at(8)
string.tried = os.waitpid(child, 0)", TRIED),
    // Locks and advice.
    case("locked memory", Refork(ADVICE), "libc.mlock(ctypes.c_void_p(PAGE), 4096)", "seen += status('VmLck')"),
    case("memory locked when it is touched", Refork(ADVICE), "assert call('mlock2', PAGE, 4096, 1) == 0", "seen += status('VmLck')"),
    case("all memory to come locked", Refork(ADVICE), "call('mlockall', 2); string.tried = 1", TRIED),
    case("a mapping that is locked", Refork(MAPPINGS), "libc.mmap(None, ctypes.c_long(4096), 3, 0x2022, -1, ctypes.c_long(0)); string.tried = 1", TRIED),
    case("a mapping that grows down", Refork(MAPPINGS), "assert libc.mmap(None, ctypes.c_long(65536), 3, 0x0122, -1, ctypes.c_long(0)) > 0; string.tried = 1", TRIED),
    case("a mapping of huge pages", Refork(MAPPINGS), "libc.mmap(None, ctypes.c_long(2 << 20), 3, 0x40022, -1, ctypes.c_long(0)); string.tried = 1", TRIED),
    case("a mapping that the kernel may drop", Refork(MAPPINGS), "libc.mmap(None, ctypes.c_long(4096), 3, 0x28, -1, ctypes.c_long(0)); string.tried = 1", TRIED),
    case("advice against core dumps", Refork(ADVICE), "libc.madvise(ctypes.c_void_p(PAGE), 4096, 16)", FLAGS),
    case("advice to read at random", Refork(ADVICE), "libc.madvise(ctypes.c_void_p(PAGE), 4096, 1)", FLAGS),
    case("advice to read in order", Refork(ADVICE), "libc.madvise(ctypes.c_void_p(PAGE), 4096, 2)", FLAGS),
    case("advice to use huge pages", Refork(ADVICE), "libc.madvise(ctypes.c_void_p(PAGE), 4096, 14); string.tried = 1", TRIED),
    case("advice to use no huge pages", Refork(ADVICE), "libc.madvise(ctypes.c_void_p(PAGE), 4096, 15); string.tried = 1", TRIED),
    case("advice to wipe in children", Refork(ADVICE), "
string.held = libc.mmap(None, ctypes.c_long(4096), 3, 0x22, -1, ctypes.c_long(0))
assert libc.madvise(ctypes.c_void_p(string.held), 4096, 18) == 0", "seen.append(hasattr(string, 'held'))"),
    case("advice to make huge pages now", Refork(ADVICE), "libc.madvise(ctypes.c_void_p(PAGE), 4096, 25); string.tried = 1", TRIED),
    case("advice to cut a file", Refork(ADVICE), "libc.madvise(ctypes.c_void_p(PAGE), 4096, 9); string.tried = 1", TRIED),
    case("pages that are dropped", Rewind, "
ctypes.memset(id(string.ascii_lowercase) + object.__basicsize__ + 32, ord('X'), 3)
assert libc.madvise(ctypes.c_void_p(PAGE), 4096, 21) == 0", "seen.append(string.ascii_lowercase)"),
    attempt("advice that leaves nothing", Rewind, "
for advice in (3, 20, 21, 22, 23): seen.append(call('madvise', PAGE, 4096, advice))", "[0, 0, 0, 0, 0]"),
    attempt("advice by which pages may vanish", Rewind, "
for advice in (8, 10, 12, 100, 101, 102, 103): seen.append(call('madvise', PAGE, 4096, advice))", r#"["EINVAL", "EINVAL", "EINVAL", "EINVAL", "EINVAL", "EINVAL", "EINVAL"]"#),
    case("where memory is to lie", Refork(ADVICE), "call('set_mempolicy', 1, struct.pack('<Q', 1), 2); call('mbind', PAGE, 4096, 1, struct.pack('<Q', 1), 2, 0); string.tried = 1", TRIED)
        .refused_by_profile(),
    case("a key of protection", Refork(ADVICE), "call('pkey_alloc', 0, 0); call('pkey_mprotect', PAGE, 4096, 3, -1); string.tried = 1", TRIED)
        .refused_by_profile(),
    case("pages in another order", Refork(MAPPINGS), "
string.held = mmap.mmap(-1, 8192)
call('remap_file_pages', ctypes.addressof(ctypes.c_char.from_buffer(string.held)), 4096, 0, 1, 0)", "seen.append(hasattr(string, 'held'))"),
    case("memory that can never be changed again", Refork(&["mappings"]), "call('mseal', PAGE, 4096, 0); string.tried = 1", TRIED)
        .refused_by_profile(),
    case("memory that is secret from the kernel", Refork(&["mappings"]), "call('memfd_secret', 0); string.tried = 1", TRIED),
    case("what is in the page cache", Rewind, "call('cachestat', 0, 0, 0, 0); string.tried = 1", TRIED),
    case("a barrier for all its threads", Refork(&["thread_areas"]), "assert call('membarrier', 1 << 4, 0, 0) == 0; string.tried = 1", TRIED),
    case("the list of robust locks", Rewind, "
string.held = ctypes.create_string_buffer(24)
assert call('set_robust_list', ctypes.addressof(string.held), 24) == 0", "
head = ctypes.c_void_p()
call('get_robust_list', 0, ctypes.byref(head), ctypes.byref(ctypes.c_size_t()))
seen.append((head.value or 0) & 0xffffff)"),
    case("the address that is cleared at the end", Rewind, "string.held = ctypes.create_string_buffer(8); call('set_tid_address', ctypes.addressof(string.held))", "
address = ctypes.c_void_p()
libc.prctl(40, ctypes.byref(address), 0, 0, 0)
seen.append((address.value or 0) & 0xffffff)"),
    case("a restartable sequence of its own", Refork(&["thread_areas"]), "
# glibc's, unregistered: libc tells where it is, from the thread's pointer.
base = ctypes.c_ulong()
call('arch_prctl', 0x1003, ctypes.byref(base))
area = base.value + ctypes.c_long.in_dll(libc, '__rseq_offset').value
string.tried = call('rseq', area, 32, 1, 0x53053053)
assert string.tried == 0, string.tried", TRIED),
];
