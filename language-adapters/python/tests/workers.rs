//! What a function finds in a worker: a child made by the bare system call, which
//! no library was told of.

mod common;

use std::collections::BTreeSet;

use common::{booted, call, cases, in_child, run};
use refunction_adapter::Adapter;
use refunction_python::Python;

fn main() {
    run(
        &mut booted(),
        cases![
            threads,
            subprocesses,
            pools_of_processes,
            executors,
            event_loops,
            identities,
            imports_in_several_threads,
            forks_of_the_functions_own,
            no_two_workers_draw_the_same,
            openssl_is_reseeded_though_the_process_id_is_the_same,
        ],
    );
}

/// What `main` of this source returns in a fresh worker.
fn in_worker(python: &mut Python, code: &str) -> String {
    in_child(0, || {
        python.after_fork();
        python.after_restore().expect("reseed");
        call(python, code, "{}").to_string()
    })
    .expect("a child")
}

fn threads(python: &mut Python) {
    let code = "
import queue, threading, _thread
def main(args):
    results = queue.Queue()
    lock = threading.RLock()
    def work(n):
        with lock: results.put(n)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for it in threads: it.start()
    for it in threads: it.join()
    timer = threading.Timer(0.01, results.put, [8])
    timer.start()
    timer.join()
    return [sorted(results.queue), threading.active_count(),
            threading.current_thread() is threading.main_thread(),
            threading.get_ident() == threading.main_thread().ident]
";
    assert_eq!(in_worker(python, code), "[[0,1,2,3,4,5,6,7,8],1,true,true]");
}

fn subprocesses(python: &mut Python) {
    let code = "
import asyncio, os, subprocess, sys
async def later():
    child = await asyncio.create_subprocess_exec('echo', 'later', stdout=asyncio.subprocess.PIPE)
    return (await child.communicate())[0].decode()
def main(args):
    python = subprocess.run([sys.executable, '-c', 'import sys; print(sys.version_info[:2])'],
                            capture_output=True, text=True, check=True).stdout
    return [subprocess.check_output(['echo', 'x'], text=True), os.popen('echo y').read(),
            asyncio.run(later()), python == f'{sys.version_info[:2]}\\n']
";
    assert_eq!(in_worker(python, code), r#"["x\n","y\n","later\n",true]"#);
}

fn pools_of_processes(python: &mut Python) {
    let code = "
import concurrent.futures, multiprocessing
def double(n): return 2 * n
def main(args):
    context = multiprocessing.get_context('fork')
    with context.Pool(2) as pool:
        pooled = pool.map(double, range(4))
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        executed = list(executor.map(double, range(4)))
    a, b = context.Pipe()
    child = context.Process(target=b.send, args=('sent',))
    child.start()
    got = a.recv()
    child.join()
    return [pooled, executed, got, child.exitcode]
";
    assert_eq!(in_worker(python, code), r#"[[0,2,4,6],[0,2,4,6],"sent",0]"#);
}

fn executors(python: &mut Python) {
    let code = "
import concurrent.futures
executor = concurrent.futures.ThreadPoolExecutor(4)
def main(args): return sum(executor.map(lambda n: n * n, range(10)))
";
    assert_eq!(in_worker(python, code), "285");
}

fn event_loops(python: &mut Python) {
    let code = "
import asyncio, socket
async def main(args):
    async def serve(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
    server = await asyncio.start_server(serve, '127.0.0.1', 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b'line\\n')
    line = (await reader.readline()).decode()
    writer.close()
    server.close()
    blocking = await asyncio.to_thread(lambda: 'thread')
    try: await asyncio.wait_for(asyncio.sleep(5), 0.01)
    except TimeoutError: slow = 'timeout'
    return [line, blocking, slow, await asyncio.gather(*[asyncio.sleep(0, n) for n in range(3)])]
";
    assert_eq!(
        in_worker(python, code),
        r#"["line\n","thread","timeout",[0,1,2]]"#
    );
}

fn identities(python: &mut Python) {
    let code = "
import multiprocessing, os, threading
def main(args):
    return [os.getpid() == int(os.readlink('/proc/self')), threading.get_native_id() == os.getpid(),
            threading.main_thread().native_id == os.getpid()]
";
    assert_eq!(in_worker(python, code), "[true,true,true]");
}

fn imports_in_several_threads(python: &mut Python) {
    let code = "
import concurrent.futures, importlib
names = ['colorsys', 'wave', 'chunk', 'sched', 'cmd', 'code', 'dis', 'filecmp'] * 2
def load(name):
    try: return importlib.import_module(name).__name__
    except ModuleNotFoundError: return name
def main(args):
    with concurrent.futures.ThreadPoolExecutor(8) as executor:
        return list(executor.map(load, names)) == names
";
    assert_eq!(in_worker(python, code), "true");
}

fn forks_of_the_functions_own(python: &mut Python) {
    let code = "
import os, threading
def main(args):
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    r, w = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(w, str(threading.active_count()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    stop.set()
    thread.join()
    return os.read(r, 10).decode()
";
    assert_eq!(in_worker(python, code), r#""1""#);
}

/// Everything that draws at random, in one line.
const DRAW: &str = "
import random, secrets, ssl, tempfile, uuid, multiprocessing, os
def main(args):
    with tempfile.NamedTemporaryFile() as file: name = os.path.basename(file.name)
    return {
        'random': random.random(), 'gauss': random.gauss(0, 1), 'secrets': secrets.token_hex(),
        'openssl': ssl.RAND_bytes(16).hex(), 'uuid4': str(uuid.uuid4()), 'uuid1': str(uuid.uuid1()),
        'name': name, 'authkey': bytes(multiprocessing.current_process().authkey).hex(),
    }
";

fn no_two_workers_draw_the_same(python: &mut Python) {
    let drawn: Vec<serde_json::Value> = (0..3)
        .map(|_| serde_json::from_str(&in_worker(python, DRAW)).expect("JSON"))
        .collect();
    for key in drawn[0].as_object().expect("an object").keys() {
        let values: BTreeSet<_> = drawn.iter().map(|it| it[key].to_string()).collect();
        assert_eq!(values.len(), drawn.len(), "{key}: {values:?}");
    }
}

fn openssl_is_reseeded_though_the_process_id_is_the_same(python: &mut Python) {
    // Each is the first process of its namespace, and draws after its parent of the
    // same number did: what a restored worker is to itself before.
    let draw = |python: &mut Python| call(python, DRAW, "{}").to_string();
    let answer = in_child(libc::CLONE_NEWPID, || {
        python.after_fork();
        draw(python);
        let mut workers = |fresh: bool| -> Vec<String> {
            (0..2)
                .map(|_| {
                    in_child(libc::CLONE_NEWPID, || {
                        if fresh {
                            python.after_restore().expect("reseed");
                        }
                        draw(python)
                    })
                    .unwrap_or_default()
                })
                .collect()
        };
        serde_json::to_string(&[workers(false), workers(true)]).expect("JSON")
    });
    let Some(answer) = answer else {
        println!("(this user may not make process namespaces)");
        return;
    };
    let answer: Vec<Vec<String>> = serde_json::from_str(&answer).expect(&answer);
    let drawn = |index: usize, key: &str| -> BTreeSet<String> {
        answer[index]
            .iter()
            .map(|it| serde_json::from_str::<serde_json::Value>(it).expect(it)[key].to_string())
            .collect()
    };
    // Without the adapter's doing they are the same, or this would prove nothing.
    for key in ["random", "gauss", "openssl", "authkey"] {
        assert_eq!(drawn(0, key).len(), 1, "{key} differs by itself");
    }
    for key in [
        "random", "gauss", "openssl", "authkey", "secrets", "uuid4", "uuid1",
    ] {
        assert_eq!(drawn(1, key).len(), 2, "{key} is the same");
    }
}
