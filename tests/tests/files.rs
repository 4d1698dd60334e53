//! What the supervisor puts back itself, beside the process: files, pipes and memory;
//! and what of the host a tenant gets at when somebody starts it by hand.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use refunction_tests::peer::{Peer, assert_failure};
use refunction_tests::supervisor::Supervisor;
use refunction_tests::{environment, process};
use serde_json::{Value, json};

/// Does what it is told: `{"do": "source"}`.
const OBEY: &str = r#"
import ctypes, errno, os, resource, select, signal, socket, subprocess, sys, tempfile, threading, time

def main(args):
    scope = dict(globals(), args=args, answer=None)
    exec(args["do"], scope)
    return scope["answer"]
"#;

fn obeying(arguments: &[&str]) -> Supervisor {
    let mut supervisor = Supervisor::start(arguments);
    supervisor.load(OBEY);
    supervisor
}

fn doing(source: &str) -> Value {
    json!({ "do": source })
}

/// Processor time of a process, in hundredths of a second (proc_pid_stat(5)).
fn processor_time(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |at: usize| fields[at].parse::<u64>().expect("a number");
    number(11) + number(12)
}

// --- much to remove ------------------------------------------------------------

#[test]
fn a_deep_tree_and_long_names_are_removed_in_a_rewind() {
    let mut supervisor = obeying(&[]);
    let source = "
os.chdir(tempfile.mkdtemp(dir='/dev/shm'))
for level in range(3000):
    os.mkdir('d' * 255); os.chdir('d' * 255)
    os.close(os.open('f' * 255, os.O_CREAT))
os.chdir('/')";
    supervisor.call(&doing(source));
    assert!(!process::files_of_user(supervisor.uid).is_empty());
    let restored = supervisor.restore();
    // A busy machine may take longer than a rewind waits; the files go all the same.
    assert!(
        restored.method == "rewind" || restored.rows == ["files"],
        "{}",
        restored.report
    );
    assert!(process::files_of_user(supervisor.uid).is_empty());
}

#[test]
fn others_are_answered_while_much_is_removed() {
    let mut supervisor = obeying(&[]);
    let source = "
place = tempfile.mkdtemp(dir='/dev/shm')
handle = os.open(place, os.O_RDONLY)
for number in range(200000): os.close(os.open(str(number), os.O_CREAT, dir_fd=handle))
os.close(handle)";
    supervisor.call(&doing(source));
    supervisor.send(&json!({"type": "restore"}));
    supervisor.send(&json!({"type": "function", "data": OBEY}));
    let mut states = Vec::new();
    let restored = loop {
        supervisor.send(&json!({"type": "status"}));
        let answer = supervisor.receive();
        if answer["type"] == "restored" {
            break answer;
        }
        states.push(answer["data"]["state"].clone());
    };
    assert!(states.iter().any(|it| it == "restoring"), "{states:?}");
    assert_eq!(restored["data"]["taints"][0]["row"], "files", "{restored}");
    // The last question may be answered before or after what waited.
    let mut rest = [supervisor.receive(), supervisor.receive()];
    rest.sort_by_key(|it| it["type"].to_string());
    assert_eq!(rest[0]["type"], "function_loaded", "{rest:?}");
    assert_eq!(rest[0]["data"], true);
    assert_eq!(rest[1]["type"], "status", "{rest:?}");
    assert!(process::files_of_user(supervisor.uid).is_empty());
}

#[test]
fn a_function_that_follows_without_a_restore_waits_for_the_files_too() {
    let mut supervisor = obeying(&["--method", "refork"]);
    let source = "
for number in range(60000): os.close(os.open(f'/dev/shm/{os.getuid()}-{number}', os.O_CREAT))";
    supervisor.call(&doing(source));
    supervisor.load(OBEY);
    let source =
        "answer = [name for name in os.listdir('/dev/shm') if name.startswith(f'{os.getuid()}-')]";
    assert_eq!(supervisor.call(&doing(source)), json!([]));
}

#[test]
fn files_are_gone_when_the_template_died_as_well() {
    let mut supervisor = obeying(&[]);
    supervisor.call(&doing(
        "open('/tmp/of-the-tenant-' + str(os.getuid()), 'w').close()",
    ));
    let worker = supervisor.worker();
    let template = process::descendants(supervisor.pid())
        .into_iter()
        .find(|pid| *pid != worker)
        .and_then(process::Handle::open)
        .expect("a template");
    template.signal(nix::sys::signal::Signal::SIGKILL);
    refunction_tests::eventually("the template is reaped", || !template.is_there());
    // Another tenant's, whom nobody restored for.
    supervisor.load(OBEY);
    let source = "answer = os.path.exists('/tmp/of-the-tenant-' + str(os.getuid()))";
    assert_eq!(supervisor.call(&doing(source)), false);
}

// --- pipes ---------------------------------------------------------------------

#[test]
fn what_a_tenant_did_not_read_of_a_request_is_not_the_next_ones() {
    let mut supervisor = obeying(&[]);
    // It answers its own call, and the next one as soon as that arrives, unread.
    let source = "
def frame(text): os.write(4, len(text).to_bytes(4, 'little') + b'v' + text)
frame(b'1')
select.select([3], [], [])
frame(b'2')
time.sleep(1000)";
    for length in [10, 1_000_000] {
        assert_eq!(supervisor.call(&doing(source)), 1);
        let much = json!({"do": "", "much": "x".repeat(length)});
        assert_eq!(supervisor.call(&much), 2);
        let restored = supervisor.restore();
        assert_eq!(restored.method, "rewind", "{}", restored.report);
        supervisor.load(OBEY);
        assert_eq!(supervisor.call(&doing("answer = 'mine'")), "mine");
    }
}

#[test]
fn closed_output_pipes_keep_nobody_busy() {
    let mut supervisor = obeying(&[]);
    supervisor.call(&doing("os.close(1); os.close(2)"));
    let before = processor_time(supervisor.pid());
    supervisor.call(&doing("time.sleep(1)"));
    let spent = processor_time(supervisor.pid()) - before;
    // Also on a machine where whoever is busy gets little of it.
    assert!(spent < 5, "{spent} hundredths of a second for nothing");
    assert_eq!(supervisor.restore().method, "refork");
    supervisor.load("def main(args):\n    print('heard')\n");
    supervisor.call(&Value::Null);
    supervisor.wait_for_log(|log| log["line"] == "heard");
}

#[test]
fn an_unfinished_line_is_not_the_next_ones() {
    let mut supervisor = obeying(&[]);
    for way in ["rewind", "refork"] {
        let mut source = "os.write(1, b'of the first'); os.write(2, b'of the first')".to_owned();
        if way == "refork" {
            source += "; os.nice(1)";
        }
        supervisor.call(&doing(&source));
        assert_eq!(supervisor.restore().method, way);
        supervisor.take_logs();
        supervisor.load(OBEY);
        supervisor.call(&doing("print('of the second')"));
        let line = supervisor.wait_for_log(|log| log["stream"] == "stdout");
        assert_eq!(line["line"], "of the second");
    }
}

// --- what others can do to the loop ---------------------------------------------

#[test]
fn a_storm_of_signals_puts_no_deadline_off() {
    let mut supervisor = obeying(&[]);
    // Each signal is a stop that the supervisor has to see.
    let source = "
for number in range(24):
    if os.fork() == 0:
        signal.signal(signal.SIGUSR1, lambda *_: None)
        while True: os.kill(os.getpid(), signal.SIGUSR1)
time.sleep(1000)";
    let began = Instant::now();
    supervisor
        .send(&json!({"type": "request", "id": 1, "deadline_ms": 500, "data": doing(source)}));
    assert_failure(&supervisor.expect("error")["data"], "timeout", &["500 ms"]);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(supervisor.call(&doing("answer = 1")), 1);
}

#[test]
fn stopping_and_continuing_children_end_with_the_restore() {
    let mut supervisor = obeying(&[]);
    let source = "
for number in range(12):
    child = os.fork()
    if child == 0:
        while True: os.kill(os.getpid(), signal.SIGSTOP)
    if os.fork() == 0:
        while True:
            try: os.kill(child, signal.SIGCONT)
            except OSError: pass
answer = 1";
    assert_eq!(supervisor.call(&doing(source)), 1);
    let began = Instant::now();
    supervisor.restore();
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(process::of_user(supervisor.uid).len(), 1);
}

#[test]
fn a_flood_of_empty_lines_holds_nobody_up() {
    let mut supervisor = obeying(&[]);
    let source = "
for number in range(64): os.write(1, b'\\n' * 65536)
answer = 1";
    let size = process::Size::of(supervisor.pid());
    let began = Instant::now();
    assert_eq!(supervisor.call(&doing(source)), 1);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    let grown = process::Size::of(supervisor.pid()).own_kib - size.own_kib;
    assert!(grown < 64 * 1024, "{grown} KiB for lines");
    let lines = supervisor.take_logs();
    assert!(lines.last().is_some_and(|line| line["truncated"] == true));
}

// --- terminals -----------------------------------------------------------------

/// Makes a terminal its controlling one, and becomes a program whose standard streams
/// are the ones it was started with.
const IN_A_TERMINAL: &str = "
import os, pty, sys
streams = [os.dup(0), os.dup(1)]
child, terminal = pty.fork()
if child == 0:
    for number, stream in enumerate(streams): os.dup2(stream, number)
    os.close(os.open('/dev/tty', os.O_RDWR))
    os.execv(sys.argv[1], sys.argv[1:])
for stream in (0, 1, *streams): os.close(stream)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
";

#[test]
fn tenants_do_not_get_at_the_terminal_that_the_supervisor_was_started_from() {
    environment::require_root();
    let mut wrapper = Command::new("python3")
        .args(["-c", IN_A_TERMINAL])
        .arg(environment::supervisor())
        .args(["--worker-uid", "64077"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let (input, output) = (wrapper.stdin.take(), wrapper.stdout.take());
    let mut peer = Peer::new(output.expect("a pipe"), input.expect("a pipe"));
    peer.expect("started");
    peer.load(OBEY);
    let source = "
try: os.open('/dev/tty', os.O_RDWR)
except OSError as error: answer = error.strerror
else: answer = 'open'";
    assert_eq!(peer.call(&doing(source)), "No such device or address");
    peer.send(&json!({"type": "shutdown"}));
    assert!(peer.is_over());
    assert_eq!(wrapper.wait().expect("it ended").code(), Some(0));
}

// --- memory --------------------------------------------------------------------

#[test]
fn another_template_takes_over_when_memory_has_grown() {
    // Overwrites all of the template's memory that it can, in one system call that does
    // not return; a child of it gives the answer then.
    const OVERWRITE: &str = "
import array, ctypes, fcntl, os, socket, termios, time
def main(args):
    places, area = [], ctypes.CDLL(None).pthread_self
    area.restype = ctypes.c_ulong
    for line in open('/proc/self/maps'):
        place, rights, _, _, _, *name = line.split()
        if rights == 'rw-p' and name[:1] not in (['[stack]'], ['[vvar]']):
            start, end = (int(it, 16) for it in place.split('-'))
            # The kernel reads the thread's own area, and ends a thread that has nonsense there.
            if not start <= area() < end: places.append((ctypes.c_char * (end - start)).from_address(start))
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        size = sum(map(len, places))
        theirs.sendall(b'x' * size)
        unread = array.array('i', [1])
        while unread[0]: fcntl.ioctl(theirs, termios.TIOCOUTQ, unread)
        text = str(size).encode()
        os.write(4, len(text).to_bytes(4, 'little') + b'v' + text)
        time.sleep(1000)
    ours.recvmsg_into(places + [bytearray(1)], 0, socket.MSG_WAITALL)
";
    let mut supervisor = Supervisor::start(&["--rotate-memory-mib", "1"]);
    let mut taken_over = None;
    for _ in 0..400 {
        supervisor.load(OVERWRITE);
        assert!(supervisor.call(&Value::Null).as_u64() > Some(2 << 20));
        let restored = supervisor.restore();
        if restored.method == "refork" {
            taken_over = Some(restored);
            break;
        }
    }
    let restored = taken_over.expect("no template took over");
    assert_eq!(restored.rows, ["template"], "{}", restored.report);
    let detail = restored.report["taints"][0]["detail"].as_str();
    assert!(
        detail.is_some_and(|it| it.contains("memory had grown by")),
        "{detail:?}"
    );
}

// --- without root --------------------------------------------------------------

/// A user that is nobody's.
const USER: u32 = 64_078;

fn without_root() -> Supervisor {
    Supervisor::start_with(&[], |command| {
        command.uid(USER).gid(USER).env_remove("TMPDIR");
    })
}

fn private_directory(supervisor: &Supervisor) -> PathBuf {
    let errors = supervisor.errors();
    let (_, rest) = errors.split_once("make files in ").expect("a place");
    let (place, _) = rest.split_once(" only").expect("a place");
    place.into()
}

#[test]
fn without_root_workers_make_files_in_one_place_only_and_they_go() {
    let mut supervisor = without_root();
    let place = private_directory(&supervisor);
    assert!(supervisor.errors().contains("not started as root"));
    assert!(place.is_dir());
    let own = Path::new("/tmp").join(format!("of-the-user-{}", std::process::id()));
    std::fs::write(&own, "precious").expect("written");
    std::os::unix::fs::chown(&own, Some(USER), Some(USER)).expect("owned");
    supervisor.load(OBEY);
    let source = format!(
        "
def fails(act):
    try: act()
    except OSError as error: return error.errno in (errno.EPERM, errno.EACCES, errno.EXDEV)
    return False
own = {own:?}
answer = [
    tempfile.gettempdir(),
    fails(lambda: open('/tmp/elsewhere', 'w')), fails(lambda: os.mkdir('/dev/shm/elsewhere')),
    fails(lambda: os.symlink('/', '/var/tmp/elsewhere')), fails(lambda: open(own, 'w')),
    fails(lambda: open(own, 'a')), fails(lambda: os.truncate(own, 0)), fails(lambda: os.remove(own)),
    fails(lambda: os.rename(own, own + '2')), fails(lambda: os.link(own, tempfile.gettempdir() + '/it')),
    fails(lambda: os.kill(os.getppid(), 0)),
    fails(lambda: open(f'/proc/{{os.getppid()}}/mem', 'rb')),
    fails(lambda: os.rmdir(tempfile.gettempdir())),
]
for pid in filter(str.isdigit, os.listdir('/proc')):
    try: owner = os.stat('/proc/' + pid).st_uid
    except OSError: continue
    if int(pid) != os.getpid() and owner == os.getuid():
        answer.append(fails(lambda: os.kill(int(pid), 0)))
open('/dev/null', 'w').close()
os.makedirs(tempfile.gettempdir() + '/a/b/c')
open(tempfile.gettempdir() + '/a/b/secret', 'w').close()
for place, mode in (('/a/b/c', 0), ('/a/b', 0o500), ('/a', 0), ('', 0)): os.chmod(tempfile.gettempdir() + place, mode)",
        own = own
    );
    let answer = supervisor.call(&doing(&source));
    let answers = answer.as_array().expect("a list");
    assert_eq!(answers[0], place.to_str().expect("UTF-8"), "{answer}");
    assert!(answers.len() > 14, "{answer}");
    assert!(answers[1..].iter().all(|it| *it == true), "{answer}");
    let restored = supervisor.restore();
    assert_eq!(restored.method, "rewind", "{}", restored.report);
    supervisor.load(OBEY);
    let source =
        "answer = [os.listdir(os.environ['TMPDIR']), oct(os.stat(os.environ['TMPDIR']).st_mode)]";
    assert_eq!(supervisor.call(&doing(source)), json!([[], "0o40700"]));
    // A refork leaves nothing either.
    supervisor.call(&doing(
        "open(os.environ['TMPDIR'] + '/it', 'w').close(); os.nice(1)",
    ));
    assert_eq!(supervisor.restore().method, "refork");
    supervisor.load(OBEY);
    assert_eq!(
        supervisor.call(&doing("answer = os.listdir(os.environ['TMPDIR'])")),
        json!([])
    );
    supervisor.call(&doing("open(os.environ['TMPDIR'] + '/last', 'w').close()"));
    supervisor.send(&json!({"type": "shutdown"}));
    assert_eq!(supervisor.wait(), 0);
    assert!(!place.exists(), "it is still there");
    assert_eq!(std::fs::read(&own).expect("still there"), b"precious");
    std::fs::remove_file(own).expect("removed");
}

/// Becomes a program to which the kernel says that it has no Landlock: a filter that
/// answers landlock_create_ruleset(2) with ENOSYS.
const NO_LANDLOCK: &str = "
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
rules = b''.join(struct.pack('HBBI', *rule) for rule in (
    (0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7fff0000)))
class Program(ctypes.Structure): _fields_ = [('length', ctypes.c_ushort), ('rules', ctypes.c_char_p)]
program = Program(len(rules) // 8, rules)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
";

#[test]
fn without_root_and_without_landlock_there_is_no_start() {
    environment::require_root();
    let mut command = Command::new("python3");
    command
        .args(["-c", NO_LANDLOCK])
        .arg(environment::supervisor())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command
        .uid(USER + 1)
        .gid(USER + 1)
        .spawn()
        .expect("python3");
    // One that starts all the same ends with the end of its input.
    let mut input = child.stdin.take().expect("a pipe");
    let load = json!({"type": "function", "data": OBEY}).to_string() + "\n";
    input.write_all(load.as_bytes()).expect("written");
    drop(input);
    let ended = child.wait_with_output().expect("it ended");
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success(), "{errors}");
    assert!(
        errors.contains("Landlock") && errors.contains("as root"),
        "{errors}"
    );
    assert!(process::files_of_user(USER + 1).is_empty());
}
