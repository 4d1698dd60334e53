//! Whatever is left of a secret in a process that was put back: searched for by the
//! next tenant, in all its memory, and by this host.

use std::fs::File;
use std::os::unix::fs::FileExt;

use libtest_mimic::Trial;
use refunction_tests::supervisor::Supervisor;
use serde_json::json;

use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![trial(
        "no_byte_of_a_secret_stays_in_the_process",
        no_byte_of_a_secret_stays_in_the_process,
    )]
}

/// Puts a secret in every kind of memory there is, and searches for one. Neither the
/// secret nor what is searched for is ever a constant of this source.
const HIDE_AND_SEEK: &str = "
import array, collections, ctypes, io, mmap, os, re, select, socket, string, sys, threading
kept = []
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p

def deep(left, secret):
    local = ctypes.create_string_buffer(secret)
    return deep(left - 1, secret) if left else bytes(local)

def hide(secret):
    text = secret.decode()
    # Objects: large and small, of every kind, and those of the template changed.
    string.held = [secret * count for count in (1, 10, 1000, 100_000)]
    string.text = sys.intern(text)
    string.number = int.from_bytes(secret, 'little')
    string.array = array.array('b', secret * 100)
    string.wide = text.replace(text[0], '\\U0001f600') + text
    kept.append({text: secret, secret: text})
    re.compile(re.escape(text))
    os.environ['SECRET'] = text
    ctypes.memmove(id(string.ascii_letters) + object.__basicsize__ + 32, secret, 32)
    # The C library's: its heap, freed and not, its buffers, its break.
    areas = [libc.malloc(size) for size in (100, 5000, 300_000)]
    for area in areas: ctypes.memmove(area + 16, secret, 32)
    libc.free(ctypes.c_void_p(areas[0]))
    area = libc.sbrk(ctypes.c_long(1 << 20))
    ctypes.memmove(area + 5000, secret, 32)
    stream = ctypes.c_void_p.in_dll(libc, 'stdout')
    libc.fputs(secret, stream)
    # Mappings, shared and not, written to and let go.
    for flags in (mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS):
        area = mmap.mmap(-1, 1 << 20, flags)
        area.write(secret * 1000)
        kept.append(area)
    gone = mmap.mmap(-1, 1 << 20)
    gone.write(secret * 1000)
    gone.close()
    memory = os.memfd_create('x')
    os.write(memory, secret * 1000)
    kept.append(mmap.mmap(memory, 32 * 1000))
    file = open('/dev/shm/' + str(os.getuid()), 'w+b')
    file.write(secret * 1000)
    file.flush()
    kept.append(mmap.mmap(file.fileno(), 32 * 1000))
    # Stacks, of this thread and others, running and ended.
    deep(500, secret)
    thread = threading.Thread(target=deep, args=(100, secret))
    thread.start()
    thread.join()
    threading.Thread(target=lambda: (deep(100, secret), threading.Event().wait()), daemon=True).start()
    # What the kernel holds for a descriptor, and what goes through the channel.
    pair = socket.socketpair()
    pair[0].send(secret * 100)
    kept.append(pair)
    print(text)
    buffered = io.BytesIO(secret * 500)
    kept.append(buffered)
    gone = [secret * 20 for _ in range(5000)]
    del gone
    return len(secret)

TURNED = bytes(255 - byte for byte in range(256))

def seek(turned):
    # Turned around, so that what is searched for is not found for being searched for.
    needle = bytes(turned)
    found = []
    # A buffer of its own, mapped for this and left out.
    with open('/proc/self/maps') as maps: lines = maps.read().splitlines()
    piece = mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory = os.open('/proc/self/mem', os.O_RDONLY)
    for line in lines:
        where, rights = line.split()[:2]
        if rights[0] != 'r' or line.endswith('[vsyscall]'): continue
        start, end = (int(it, 16) for it in where.split('-'))
        while start < end:
            try: got = os.preadv(memory, [memoryview(piece)[:min(end - start, 1 << 20)]], start)
            except OSError: break
            if not got: break
            at = piece[:got].translate(TURNED).find(needle)
            if at >= 0: found.append([hex(start + at), line])
            if got < 32 or start + got >= end: break
            # What lies on the border of two pieces is in the next.
            start += got - 32
    os.close(memory)
    return found

def main(args):
    if 'hide' in args: return hide(''.join(args['hide']).encode())
    return seek(args['seek'])
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

fn no_byte_of_a_secret_stays_in_the_process() {
    let secret = "Zq7!kV2#pL9@wX4$mN8%bT5^cR1&dS3*";
    assert_eq!(secret.len(), 32);
    // In pieces, and turned: what the channel holds is not the function's doing.
    let pieces: Vec<String> = secret.chars().map(String::from).collect();
    let turned: Vec<u8> = secret.bytes().map(|byte| 255 - byte).collect();
    for arguments in [
        &["--scan", "ioctl"][..],
        &["--scan", "file"],
        &["--method", "refork"],
    ] {
        let mut supervisor = Supervisor::start(arguments);
        for _ in 0..2 {
            supervisor.load(HIDE_AND_SEEK);
            assert_eq!(supervisor.call(&json!({"hide": pieces})), secret.len());
            let found = supervisor.call(&json!({"seek": turned}));
            let places = found.as_array().map_or(0, Vec::len);
            assert!(places >= 10, "its own search finds it in {found}");
            let worker = supervisor.worker();
            assert!(
                count_in_memory(worker, secret.as_bytes()) > 1000,
                "the search finds it"
            );
            let restored = supervisor.restore();
            if !arguments.contains(&"refork") {
                assert_eq!(restored.method, "rewind", "{}", restored.report);
                assert_eq!(supervisor.worker(), worker);
            }
            let worker = supervisor.worker();
            let left = count_in_memory(worker, secret.as_bytes());
            assert_eq!(left, 0, "{arguments:?}");
            supervisor.load(HIDE_AND_SEEK);
            let found = supervisor.call(&json!({"seek": turned}));
            assert_eq!(found, json!([]), "{arguments:?}");
            supervisor.restore();
        }
    }
}
