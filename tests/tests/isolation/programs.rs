//! Programs as people write them: each gives the right answer under the table of
//! system calls, is put back, and runs again right after.

use libtest_mimic::Trial;
use refunction_tests::supervisor::Supervisor;
use serde_json::Value;

use crate::case::Way::{self, Either, Refork, Rewind};

struct Program {
    name: &'static str,
    way: Way,
    source: &'static str,
    /// As JSON.
    answer: &'static str,
}

const fn program(
    name: &'static str,
    way: Way,
    answer: &'static str,
    source: &'static str,
) -> Program {
    Program {
        name,
        way,
        source,
        answer,
    }
}

/// How often each runs in one container.
const ROUNDS: u32 = 3;

pub fn trials() -> Vec<Trial> {
    PROGRAMS
        .iter()
        .map(|program| {
            Trial::test(program.name, || {
                run(program);
                Ok(())
            })
        })
        .collect()
}

fn run(program: &Program) {
    let mut supervisor = Supervisor::start(&[]);
    let answer: Value = serde_json::from_str(program.answer).expect("JSON");
    for round in 0..ROUNDS {
        let loaded = supervisor.try_load(&Value::from(program.source));
        assert_eq!(
            loaded["data"], true,
            "{loaded}: numpy and requests are Debian's python3-numpy and python3-requests, which `cargo xtask test` installs"
        );
        // Twice: the second call meets what the first one left in its own process.
        for _ in 0..2 {
            assert_eq!(supervisor.call(&Value::Null), answer, "round {round}");
        }
        let restored = supervisor.restore();
        let mut got: Vec<&str> = restored.rows.iter().map(String::as_str).collect();
        got.sort_unstable();
        got.dedup();
        let got = (restored.method.as_str(), &*got);
        let is_right = match program.way {
            Rewind => got == ("rewind", &[]),
            Refork(rows) => got == ("refork", rows),
            Either(rows) => got == ("rewind", &[]) || got == ("refork", rows),
        };
        assert!(is_right, "{got:?}: {}", restored.report);
    }
    assert_eq!(supervisor.errors(), "");
}

#[rustfmt::skip]
const PROGRAMS: &[Program] = &[
    program("program: subprocess", Rewind, r#"["out\n", 3, "a b\n", "in", "HELLO\n", -15, "late"]"#, "
import signal, subprocess
def main(args):
    answers = [subprocess.run(['echo', 'out'], capture_output=True, text=True).stdout]
    answers.append(subprocess.run('exit 3', shell=True).returncode)
    answers.append(subprocess.check_output('echo a    b | tr -s \" \"', shell=True, text=True))
    process = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    answers.append(process.communicate('in')[0])
    first = subprocess.Popen(['echo', 'hello'], stdout=subprocess.PIPE)
    second = subprocess.Popen(['tr', 'a-z', 'A-Z'], stdin=first.stdout, stdout=subprocess.PIPE, text=True)
    first.stdout.close()
    answers.append(second.communicate()[0])
    process = subprocess.Popen(['sleep', '1000'])
    process.terminate()
    answers.append(process.wait())
    try: subprocess.run(['sleep', '1000'], timeout=0.05)
    except subprocess.TimeoutExpired: answers.append('late')
    return answers
"),
    program("program: threading", Rewind, "[4950, 100, 10, 3, true, [0, 1, 4, 9]]", "
import concurrent.futures, queue, threading
def main(args):
    total, lock, barrier, done = [0], threading.Lock(), threading.Barrier(10), []
    def add(number):
        barrier.wait()
        for _ in range(10):
            with lock: total[0] += 1
        done.append(number)
    threads = [threading.Thread(target=add, args=(number,)) for number in range(10)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    things = queue.Queue()
    for number in range(100): things.put(number)
    summed = []
    def consume():
        while True:
            try: summed.append(things.get_nowait())
            except queue.Empty: return
    consumers = [threading.Thread(target=consume) for _ in range(4)]
    for thread in consumers: thread.start()
    for thread in consumers: thread.join()
    condition, state = threading.Condition(), []
    def tell():
        with condition:
            state.extend([1, 2, 3])
            condition.notify_all()
    with condition:
        threading.Timer(0.01, tell).start()
        condition.wait_for(lambda: state, timeout=10)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        squares = list(pool.map(lambda it: it * it, range(4)))
    return [sum(summed), total[0], len(done), len(state), threading.Semaphore(1).acquire(), squares]
"),
    program("program: concurrent.futures with processes", Rewind, "[0, 1, 8, 27, 64]", "
import concurrent.futures, operator, functools
def main(args):
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        return [int(it) for it in pool.map(pow, range(5), [3] * 5)]
"),
    program("program: multiprocessing", Rewind, r#"["child", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 40, 60, "piped", [2, 3, 4], 0]"#, "
import multiprocessing
def put(queue): queue.put('child')
def count(value, lock):
    for _ in range(10):
        with lock: value.value += 1
def fill(array):
    for number in range(len(array)): array[number] = number
def reply(end): end.send('piped'); end.close()
def main(args):
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=put, args=(queue,))
    process.start()
    answers = [queue.get(timeout=20)]
    process.join()
    array = multiprocessing.Array('i', 10)
    process = multiprocessing.Process(target=fill, args=(array,))
    process.start()
    process.join()
    answers.append(list(array))
    value, lock = multiprocessing.Value('i', 0), multiprocessing.Lock()
    processes = [multiprocessing.Process(target=count, args=(value, lock)) for _ in range(4)]
    for it in processes: it.start()
    for it in processes: it.join()
    answers.append(value.value)
    semaphore = multiprocessing.Semaphore(60)
    answers.append(semaphore.get_value())
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=reply, args=(theirs,))
    process.start()
    answers.append(ours.recv())
    process.join()
    with multiprocessing.Pool(2) as pool: answers.append(pool.map(int(1).__add__, [1, 2, 3]))
    answers.append(process.exitcode)
    return answers
"),
    program("program: shared memory and a manager", Rewind, r#"["shared", {"key": "value"}, [1, 2]]"#, "
from multiprocessing import Manager, Process, shared_memory
def write(name):
    memory = shared_memory.SharedMemory(name)
    memory.buf[:6] = b'shared'
    memory.close()
def change(things, numbers):
    things['key'] = 'value'
    numbers.append(2)
def main(args):
    memory = shared_memory.SharedMemory(create=True, size=100)
    process = Process(target=write, args=(memory.name,))
    process.start()
    process.join()
    answers = [bytes(memory.buf[:6]).decode()]
    memory.close()
    memory.unlink()
    with Manager() as manager:
        things, numbers = manager.dict(), manager.list([1])
        process = Process(target=change, args=(things, numbers))
        process.start()
        process.join()
        answers += [dict(things), list(numbers)]
    return answers
"),
    program("program: asyncio", Rewind, r#"["HELLO", "from a process", [0, 1, 4], "late", 7, "thread"]"#, "
import asyncio
async def serve(reader, writer):
    writer.write((await reader.readline()).upper())
    await writer.drain()
    writer.close()
async def square(number):
    await asyncio.sleep(0.001)
    return number * number
async def main(args):
    server = await asyncio.start_server(serve, '127.0.0.1', 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b'hello\\n')
    answers = [(await reader.readline()).decode().strip()]
    writer.close()
    await writer.wait_closed()
    server.close()
    process = await asyncio.create_subprocess_exec('echo', 'from a process', stdout=asyncio.subprocess.PIPE)
    answers.append((await process.communicate())[0].decode().strip())
    answers.append(await asyncio.gather(*map(square, range(3))))
    try: await asyncio.wait_for(asyncio.sleep(100), 0.01)
    except asyncio.TimeoutError: answers.append('late')
    queue = asyncio.Queue()
    asyncio.get_running_loop().call_later(0.001, queue.put_nowait, 7)
    answers.append(await queue.get())
    answers.append(await asyncio.to_thread(lambda: 'thread'))
    return answers
"),
    program("program: sqlite3", Rewind, r#"[[["a", 1], ["b", 2]], 1000, "wal", 499500, "locked"]"#, "
import os, sqlite3, tempfile, threading
def main(args):
    memory = sqlite3.connect(':memory:')
    memory.execute('create table t (name text, number int)')
    memory.executemany('insert into t values (?, ?)', [('b', 2), ('a', 1)])
    answers = [memory.execute('select * from t order by name').fetchall()]
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, 'data')
        with sqlite3.connect(path) as connection:
            mode = connection.execute('pragma journal_mode=wal').fetchone()[0]
            connection.execute('create table t (number int)')
            connection.executemany('insert into t values (?)', [(it,) for it in range(1000)])
        totals = []
        def total():
            other = sqlite3.connect(path)
            totals.append(other.execute('select count(*), sum(number) from t').fetchone())
            other.close()
        thread = threading.Thread(target=total)
        thread.start()
        thread.join()
        connection.execute('begin immediate')
        other = sqlite3.connect(path, timeout=0.01)
        try: other.execute('begin immediate'); locked = None
        except sqlite3.OperationalError: locked = 'locked'
        connection.rollback()
        other.close()
        connection.close()
    return answers + [totals[0][0], mode, totals[0][1], locked]
"),
    program("program: tls", Rewind, r#"["HELLO", "TLSv1.3", true, "refused"]"#, "
import os, socket, ssl, subprocess, tempfile, threading
def main(args):
    directory = tempfile.mkdtemp()
    key, certificate = os.path.join(directory, 'key'), os.path.join(directory, 'certificate')
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
        '-keyout', key, '-out', certificate, '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'], check=True, capture_output=True)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(certificate, key)
    listener = socket.create_server(('127.0.0.1', 0))
    def serve():
        for _ in range(2):
            try:
                with theirs.wrap_socket(listener.accept()[0], server_side=True) as connection:
                    connection.sendall(connection.recv(100).upper())
            except (ssl.SSLError, OSError): pass
    server = threading.Thread(target=serve)
    server.start()
    with socket.create_connection(listener.getsockname()) as plain:
        with ssl.create_default_context(cafile=certificate).wrap_socket(plain, server_hostname='localhost') as connection:
            connection.sendall(b'hello')
            answers = [connection.recv(100).decode(), connection.version(), bool(connection.getpeercert())]
    try:
        with socket.create_connection(listener.getsockname()) as plain:
            ssl.create_default_context().wrap_socket(plain, server_hostname='localhost')
    except ssl.SSLCertVerificationError: answers.append('refused')
    server.join()
    listener.close()
    return answers
"),
    program("program: urllib and an HTTP server", Rewind, r#"[200, "you asked for /path?q=1", 404, {"posted": "data"}]"#, "
import http.server, json, threading, urllib.error, urllib.parse, urllib.request
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, code, text):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())
    def do_GET(self):
        if 'missing' in self.path: return self.answer(404, 'no')
        self.answer(200, 'you asked for ' + self.path)
    def do_POST(self): self.answer(200, json.dumps({'posted': self.rfile.read(int(self.headers['Content-Length'])).decode()}))
    def log_message(self, *_): pass
def main(args):
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01}).start()
    base = 'http://127.0.0.1:%d' % server.server_address[1]
    answer = urllib.request.urlopen(base + '/path?' + urllib.parse.urlencode({'q': 1}))
    answers = [answer.status, answer.read().decode()]
    try: urllib.request.urlopen(base + '/missing')
    except urllib.error.HTTPError as error: answers.append(error.code)
    answers.append(json.loads(urllib.request.urlopen(base, data=b'data').read()))
    server.shutdown()
    server.server_close()
    return answers
"),
    program("program: requests", Rewind, r#"[200, {"agent": true, "path": "/a?b=c"}, 404, 3]"#, "
import http.server, json, threading
import requests
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        text = json.dumps({'agent': 'requests' in self.headers['User-Agent'], 'path': self.path}).encode()
        self.send_response(404 if 'missing' in self.path else 200)
        self.send_header('Content-Length', str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *_): pass
def main(args):
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01}, daemon=True).start()
    base = 'http://127.0.0.1:%d' % server.server_address[1]
    with requests.Session() as session:
        answer = session.get(base + '/a', params={'b': 'c'}, timeout=10)
        answers = [answer.status_code, answer.json(), session.get(base + '/missing', timeout=10).status_code]
        answers.append(sum(session.get(base, timeout=10).ok for _ in range(3)))
    server.shutdown()
    return answers
"),
    // Where its linear algebra is OpenBLAS, that asks where memory is to lie (mbind(2)).
    program("program: numpy, also in threads", Either(&["memory_advice"]), r#"[true, true, true, 6.0, [2.0, 3.0], [true, true, true, true]]"#, "
import concurrent.futures
import numpy
def main(args):
    rng = numpy.random.default_rng(7)
    matrix = rng.random((300, 300)) + 300 * numpy.eye(300)
    answers = [bool(numpy.allclose(matrix @ numpy.linalg.inv(matrix), numpy.eye(300)))]
    values, vectors = numpy.linalg.eigh(matrix @ matrix.T)
    answers.append(bool(numpy.allclose(vectors @ numpy.diag(values) @ vectors.T, matrix @ matrix.T)))
    left, singular, right = numpy.linalg.svd(matrix)
    answers.append(bool(numpy.allclose(left * singular @ right, matrix)))
    answers.append(float(numpy.fft.fft([1, 2, 3])[0].real))
    answers.append(numpy.linalg.solve([[3.0, 1.0], [1.0, 2.0]], [9.0, 8.0]).tolist())
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        products = pool.map(lambda _: matrix @ matrix, range(4))
        answers.append([bool(numpy.allclose(it, matrix @ matrix)) for it in products])
    return answers
"),
    // numpy asks for huge pages for every array of four megabytes and more.
    program("program: numpy with large arrays", Refork(&["memory_advice"]), "1000000.0", "
import numpy
def main(args):
    return float(numpy.ones((1000, 1000)).sum())
"),
    program("program: tempfile, zipfile, tarfile", Rewind, r#"["text", ["a", "b/c"], "compressed", "gz", "spooled"]"#, "
import gzip, io, os, tarfile, tempfile, zipfile
def main(args):
    answers = []
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, 'archive')
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive: archive.writestr('x', 'text' * 1000)
        with zipfile.ZipFile(path) as archive: answers.append(archive.read('x').decode()[:4])
        os.makedirs(os.path.join(directory, 'in/b'))
        open(os.path.join(directory, 'in/a'), 'w').write('1')
        open(os.path.join(directory, 'in/b/c'), 'w').write('compressed')
        with tarfile.open(path, 'w:xz') as archive:
            archive.add(os.path.join(directory, 'in/a'), 'a')
            archive.add(os.path.join(directory, 'in/b/c'), 'b/c')
        with tarfile.open(path) as archive:
            answers.append(archive.getnames())
            archive.extractall(os.path.join(directory, 'out'))
        answers.append(open(os.path.join(directory, 'out/b/c')).read())
        with gzip.open(path, 'wt') as file: file.write('gz')
        with gzip.open(path, 'rt') as file: answers.append(file.read())
    with tempfile.SpooledTemporaryFile(10) as file:
        file.write(b'spooled' * 10)
        file.seek(0)
        answers.append(file.read(7).decode())
    tempfile.NamedTemporaryFile(delete=False).write(b'left')
    return answers
"),
    program("program: logging", Rewind, r#"["WARNING one", "INFO two", 4, "rotated"]"#, "
import io, logging, logging.handlers, os, queue, tempfile
def main(args):
    stream = io.StringIO()
    logger = logging.getLogger('tenant')
    logger.setLevel(logging.INFO)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter('%(levelname)s %(message)s'))
    logger.addHandler(handler)
    logger.warning('one')
    logger.info('%s', 'two')
    logger.debug('three')
    answers = stream.getvalue().splitlines()
    logger.removeHandler(handler)
    records = queue.Queue()
    logger.addHandler(logging.handlers.QueueHandler(records))
    for number in range(4): logger.info(number)
    answers.append(records.qsize())
    logger.handlers.clear()
    directory = tempfile.mkdtemp()
    rotating = logging.handlers.RotatingFileHandler(os.path.join(directory, 'log'), maxBytes=50, backupCount=2)
    logger.addHandler(rotating)
    for number in range(20): logger.info('rotated %d', number)
    logger.handlers.clear()
    rotating.close()
    answers.append('rotated' if os.path.exists(os.path.join(directory, 'log.2')) else 'not')
    return answers
"),
    program("program: signals and timers", Rewind, r#"["SIGALRM", "SIGUSR1", "caught", 2]"#, "
import os, signal, subprocess, time
def main(args):
    seen = []
    def note(number, frame): seen.append(signal.Signals(number).name)
    signal.signal(signal.SIGALRM, note)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    signal.pause()
    signal.signal(signal.SIGUSR1, note)
    os.kill(os.getpid(), signal.SIGUSR1)
    def interrupt(*_): raise TimeoutError
    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    try: time.sleep(100)
    except TimeoutError: seen.append('caught')
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    return seen + [len(signal.sigpending()) + 2]
"),
    program("program: many modules of the standard library", Rewind, r#"[3, "Zm9v", "acbd18db4cc2f85cedef654fccc4a4d8", "1/3", 30, "<a>1</a>", "2024-02-29"]"#, "
import base64, csv, datetime, fractions, functools, hashlib, heapq, io, itertools, statistics, uuid
import xml.etree.ElementTree, zlib, bz2, lzma, difflib, unittest, doctest, pdb, sched, cmd, configparser
def main(args):
    root = xml.etree.ElementTree.fromstring('<a>1</a>')
    rows = list(csv.reader(io.StringIO('a,b\\n1,2\\n3,4\\n')))
    assert lzma.decompress(lzma.compress(b'x')) == bz2.decompress(bz2.compress(b'x')) == zlib.decompress(zlib.compress(b'x'))
    return [len(rows), base64.b64encode(b'foo').decode(), hashlib.md5(b'foo').hexdigest(), str(fractions.Fraction(2, 6)),
            sum(heapq.nlargest(3, [1, 5, 10, 15])), xml.etree.ElementTree.tostring(root).decode(),
            (datetime.date(2024, 2, 28) + datetime.timedelta(1)).isoformat()]
"),
];
