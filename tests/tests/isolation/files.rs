//! Files, of every kind and name, wherever a worker can make one.

use crate::case::Case;
use crate::case::Way::{Either, Refork, Rewind};
use crate::case::case;

const FILES: &str = "seen += files()";

#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("a file in /tmp", Rewind, "open('/tmp/' + tag, 'w').write('secret')", FILES),
    case("a file in /var/tmp", Rewind, "open('/var/tmp/' + tag, 'w').write('secret')", FILES),
    case("a file in /dev/shm", Rewind, "open('/dev/shm/' + tag, 'w').write('secret')", FILES),
    case("a file in every writable directory", Rewind, "
string.held = []
for place in WRITABLE:
    try: string.held.append(os.open(place + '/' + tag + 'e', os.O_CREAT | os.O_WRONLY))
    except OSError: pass
assert len(string.held) >= 3", FILES),
    case("a hidden file", Rewind, "open('/tmp/.' + tag, 'w').write('secret')", FILES),
    case("names that look like directories' own", Rewind, "[os.mkdir('/tmp/' + name) for name in ('...' + tag, '.. ' + tag, ' ' + tag, '~' + tag, '-rf ' + tag)]", FILES),
    case("nested directories", Rewind, "os.makedirs('/tmp/' + tag + '/a/b/c'); open('/tmp/' + tag + '/a/b/.c', 'w').close(); os.chmod('/tmp/' + tag + '/a', 0)", FILES),
    case("directories a hundred deep", Rewind, "
os.chdir('/tmp')
for _ in range(100):
    os.mkdir(tag)
    os.chdir(tag)
open('secret', 'w').write('secret')
os.chdir('/')", FILES),
    case("a path longer than any path may be", Rewind, "
os.chdir('/tmp')
for _ in range(40):
    os.mkdir(tag.ljust(200, 'x'))
    os.chdir(tag.ljust(200, 'x'))
open('secret', 'w').write('secret')
os.chdir('/')", "seen.append(os.path.exists('/tmp/' + tag.ljust(200, 'x')))"),
    case("a file with an odd name", Rewind, "os.close(os.open(b'/var/tmp/' + tag.encode() + b' \\n\\xff\\xfe-rf *', os.O_CREAT))", FILES),
    case("names of 255 bytes", Rewind, "
open('/tmp/' + (tag + 'x' * 255)[:255], 'w').close()
os.mkdir(os.fsencode('/var/tmp/') + os.urandom(255).replace(b'/', b'-').replace(b'\\0', b'-'))", FILES),
    case("thousands of files", Either(&["files"]), "
os.mkdir('/tmp/' + tag)
for number in range(3000): os.close(os.open(f'/tmp/{tag}/{number}', os.O_CREAT))
for number in range(500): os.close(os.open(f'/dev/shm/{tag}-{number}', os.O_CREAT))", FILES),
    case("a sparse file", Rewind, "
with open('/tmp/' + tag, 'wb') as file: file.seek(1 << 40); file.write(b'secret')", FILES),
    case("a fifo", Rewind, "os.mkfifo('/tmp/' + tag)", FILES),
    case("a fifo that is open on both sides", Rewind, "os.mkfifo('/tmp/' + tag); string.held = os.open('/tmp/' + tag, os.O_RDWR); os.write(string.held, b'secret')", FILES),
    case("a socket in the file system", Rewind, "string.held = socket.socket(socket.AF_UNIX); string.held.bind('/tmp/' + tag)", FILES),
    case("links", Rewind, "os.symlink('/etc', '/tmp/' + tag); os.symlink('/nonexistent', '/tmp/' + tag + '2'); os.mkdir('/tmp/' + tag + '3'); os.symlink('/etc/passwd', '/tmp/' + tag + '3/x')", FILES),
    case("links in a circle", Rewind, "os.symlink(tag + 'b', '/tmp/' + tag + 'a'); os.symlink(tag + 'a', '/tmp/' + tag + 'b'); os.mkdir('/tmp/' + tag); os.symlink('.', '/tmp/' + tag + '/self'); os.symlink('..', '/tmp/' + tag + '/up')", FILES),
    case("hard links", Rewind, "
open('/tmp/' + tag, 'w').write('secret')
for number in range(20): os.link('/tmp/' + tag, f'/tmp/{tag}-{number}')
os.mkdir('/tmp/' + tag + 'd')
os.link('/tmp/' + tag, '/tmp/' + tag + 'd/other')", FILES),
    case("a file nobody may read", Rewind, "os.close(os.open('/tmp/' + tag, os.O_CREAT, 0)); os.mkdir('/tmp/' + tag + 'd', 0)", "seen += [it for it in files() if 'secret' in it]"),
    case("files with every special bit", Rewind, "
for bits in (0o4755, 0o2755, 0o1777, 0o7777):
    path = f'/tmp/{tag}-{bits:o}'
    os.close(os.open(path, os.O_CREAT)); os.chmod(path, bits)
    os.mkdir(path + 'd'); os.chmod(path + 'd', bits)", FILES),
    case("files of other times", Rewind, "
for number, when in enumerate((0, 1, 4_000_000_000)):
    open(f'/tmp/{tag}-{number}', 'w').close()
    os.utime(f'/tmp/{tag}-{number}', (when, when))", FILES),
    case("a program, and it runs", Rewind, "
shutil = __import__('shutil')
shutil.copy('/bin/sleep', '/tmp/' + tag)
subprocess.Popen(['/tmp/' + tag, '1000'], start_new_session=True)", FILES),
    case("a file that is deleted and open", Rewind, "string.held = open('/tmp/' + tag, 'w+'); string.held.write('secret'); string.held.flush(); os.unlink('/tmp/' + tag)", "seen += descriptors()"),
    case("a file without a name", Rewind, "string.held = os.open('/tmp', os.O_TMPFILE | os.O_RDWR); os.write(string.held, b'secret'); assert libc.linkat(-100, f'/proc/self/fd/{string.held}'.encode(), -100, b'/tmp/' + tag.encode(), 0x400) == 0", FILES),
    case("a file that is mapped and gone", Rewind, "
with open('/tmp/' + tag, 'w+b') as file:
    file.write(b'secret' * 1000)
    file.flush()
    string.held = mmap.mmap(file.fileno(), 0)
os.unlink('/tmp/' + tag)", "seen.append(tag in open('/proc/self/maps').read())"),
    case("a file that is renamed over and over", Rewind, "
open('/tmp/' + tag, 'w').write('secret')
for number in range(50): os.rename('/tmp/' + tag + (str(number) if number else ''), f'/tmp/{tag}{number + 1}')", FILES),
    case("attributes of a file", Refork(&["files"]), "
open('/tmp/' + tag, 'w').close()
os.setxattr('/tmp/' + tag, 'user.secret', b'secret')", FILES),
    case("a lock file and its lock", Rewind, "
string.held = open('/var/tmp/' + tag, 'w')
fcntl.flock(string.held, fcntl.LOCK_EX)
fcntl.lockf(string.held, fcntl.LOCK_EX | fcntl.LOCK_NB)", FILES),
    case("a lease on a file", Refork(&["descriptors"]), "
open('/tmp/' + tag, 'w').close()
string.held = open('/tmp/' + tag)
fcntl.fcntl(string.held, fcntl.F_SETLEASE, fcntl.F_RDLCK)", FILES),
    case("news of a directory by signal", Refork(&["descriptors"]), "
os.mkdir(f'/tmp/{tag}')
string.held = os.open(f'/tmp/{tag}', os.O_RDONLY)
fcntl.fcntl(string.held, fcntl.F_NOTIFY, fcntl.DN_CREATE | fcntl.DN_MULTISHOT)", "seen += descriptors()"),
    case("shared memory of multiprocessing", Rewind, "
from multiprocessing import resource_tracker, shared_memory
resource_tracker.register = lambda *_: None
string.held = shared_memory.SharedMemory(name=tag, create=True, size=100000)
string.held.buf[:6] = b'secret'", FILES),
    case("a semaphore with a name", Rewind, "libc.sem_open.restype = ctypes.c_void_p; assert libc.sem_open(b'/' + tag.encode(), os.O_CREAT, 0o600, 3)", FILES),
    case("a process that goes on making files", Rewind, "
subprocess.Popen(['/bin/sh', '-c', 'i=0; while true; do i=$((i+1)); : > /tmp/$0-$i; done', tag], start_new_session=True)
while not any(name.startswith(tag) for name in os.listdir('/tmp')): time.sleep(0.001)", FILES),
    case("processes that make directories as fast as they can", Either(&["files"]), "
for number in range(3):
    subprocess.Popen(['/bin/sh', '-c', 'cd /tmp; while true; do mkdir $0; cd $0; : > $0; done', f'{tag}-{number}'], start_new_session=True)
while not any(name.startswith(tag) for name in os.listdir('/tmp')): time.sleep(0.001)", FILES),
    case("a queue made as a file", Rewind, "open('/dev/mqueue/' + tag, 'w').close()", "seen += [it for it in files() if 'mqueue' in it]").in_container(),
];
