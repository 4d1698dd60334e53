"""Does what it is told, step by step, by whoever listens on a port of this host: so that
requests which run beside one another can be brought to any point at once."""

import ctypes
import glob
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time

PLACES = ["/tmp", "/var/tmp", "/dev/shm"]

kept = {}


def handler(event, context):
    if isinstance(event, dict) and "swap" in event:
        return swap(event["swap"])
    conversation = socket.create_connection(("127.0.0.1", event["port"]))
    lines = conversation.makefile("rw")

    def say(value):
        lines.write(json.dumps(value) + "\n")
        lines.flush()

    say({"name": event["name"], "pid": os.getpid(), "uid": os.getuid()})
    for line in lines:
        step = json.loads(line)
        if "answer" in step:
            return step["answer"]
        say(STEPS[step.pop("do")](**step))


def leave(secret):
    """Leaves a secret wherever there is a place for one."""
    kept["secret"] = secret
    os.environ["LEFT_SECRET"] = secret
    threading.current_thread().name = secret
    for place in PLACES:
        with open(f"{place}/left-{os.getuid()}-{secret}", "w") as file:
            file.write(secret)
        directory = tempfile.mkdtemp(dir=place)
        with open(f"{directory}/file", "w") as file:
            file.write(secret)
    named = kept["named"] = socket.socket(socket.AF_UNIX)
    named.bind("\0left-" + secret)
    named.listen()
    path = f"/tmp/left-{os.getuid()}.socket"
    kept["listening"] = socket.socket(socket.AF_UNIX)
    kept["listening"].bind(path)
    kept["listening"].listen()
    os.mkfifo(f"/tmp/left-{os.getuid()}.fifo", 0o666)
    kept["shared"] = os.memfd_create(secret)
    os.write(kept["shared"], secret.encode())


def files_of(users):
    """Paths of what these users made, as far as they can be listed."""
    for place in PLACES:
        for name in os.listdir(place):
            top = os.path.join(place, name)
            try:
                if os.lstat(top).st_uid not in users:
                    continue
            except OSError:
                continue
            yield top
            for directory, _, names in os.walk(top):
                yield from (os.path.join(directory, name) for name in names)


def find(others, secrets):
    """What there is of others to be found from here."""
    found = []
    for name, value in list(kept.items()) + list(os.environ.items()):
        if any(secret in str(value) for secret in secrets):
            found.append(f"{name} is {value}")
    users = {uid for _, uid in others}
    for path in files_of(users):
        try:
            # A fifo or a socket would have it wait.
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK)) as file:
                found.append(f"{path} is {file.read(4096)}")
        except (OSError, ValueError):
            pass
        try:
            os.unlink(path)
            found.append(f"{path} could be removed")
        except OSError:
            pass
    for secret in secrets:
        try:
            socket.socket(socket.AF_UNIX).connect("\0left-" + secret)
            found.append(f"the socket left-{secret}")
        except OSError:
            pass
    for pid, uid in others:
        try:
            socket.socket(socket.AF_UNIX).connect(f"/tmp/left-{uid}.socket")
            found.append(f"the socket of {uid}")
        except OSError:
            pass
        for mode in os.O_RDONLY, os.O_WRONLY:
            try:
                os.close(os.open(f"/tmp/left-{uid}.fifo", mode | os.O_NONBLOCK))
                found.append(f"the fifo of {uid}")
            except OSError:
                pass
        for name in "mem", "environ", "maps", "fd", "cwd", "root", "stack", "task":
            path = f"/proc/{pid}/{name}"
            try:
                if name == "task":
                    os.listdir(f"{path}/{pid}/fd")
                elif os.path.isdir(path):
                    os.listdir(path)
                else:
                    open(path, "rb").read(1)
                found.append(path)
            except OSError:
                pass
        for word in "status", "cmdline", "stat", "comm", "wchan":
            try:
                text = open(f"/proc/{pid}/{word}").read()
            except OSError:
                continue
            if any(secret in text for secret in secrets):
                found.append(f"/proc/{pid}/{word} is {text}")
        for call in (
            lambda: os.kill(pid, 0),
            lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
            lambda: os.sched_setaffinity(pid, {0}),
            lambda: signal.pidfd_send_signal(os.pidfd_open(pid), 0),
        ):
            try:
                call()
                found.append(f"something could be done to {pid}")
            except OSError:
                pass
    for id in range(32):
        for call in ("shmget", "semget", "msgget"):
            if getattr(ctypes.CDLL(None), call)(id, 1, 0) >= 0:
                found.append(f"{call} {id}")
    return found


def make(place):
    """A file in a place, and what a listing of the place gives."""
    made = tempfile.mkstemp(dir=place)[1]
    try:
        return [made, os.listdir(place)]
    except OSError as error:
        return [made, error.strerror]


def fill():
    """Takes memory until there is no more."""
    held = []
    while True:
        held.append(b"x" * (1 << 20))


def open_to_all(path, how):
    os.mkdir(path, 0o777)
    if how == "chmod":
        os.chmod(path, 0o777)


def put(path, text):
    with open(path, "w") as file:
        file.write(text)
    # What its maker keeps for itself.
    return os.stat(path).st_mode & 0o777


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError as error:
        return error.strerror


def say(text, times):
    for number in range(times):
        print(f"{text} {number}", flush=True)
        print(f"{text} {number} err", file=sys.stderr, flush=True)


def end(how):
    if how == "exit":
        os._exit(3)
    if how == "raise":
        raise ValueError("told to")
    if how == "memory":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "exec":
        os.execv("/bin/true", ["true"])
    if how == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if how == "close":
        os.close(3), os.close(4)
        time.sleep(1000)
    time.sleep(1000)


def fork():
    """Leaves processes that go on, one that belongs to nobody any more."""
    parent = os.fork()
    if parent == 0:
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(0)
    os.waitpid(parent, 0)
    if os.fork() == 0:
        time.sleep(1000)


STEPS = {
    "leave": leave,
    "find": find,
    "make": make,
    "fill": fill,
    "open": open_to_all,
    "put": put,
    "read": read,
    "say": say,
    "end": end,
    "fork": fork,
    "umask": lambda mask: os.umask(mask),
    "look": lambda path: len(os.listdir(path)),
}


def swap(secret):
    """Leaves a secret, and gives what was there."""
    found = []
    if "secret" in kept:
        found.append(kept["secret"])
    if "LEFT_SECRET" in os.environ:
        found.append(os.environ["LEFT_SECRET"])
    kept["secret"] = os.environ["LEFT_SECRET"] = secret
    for place in PLACES:
        for path in glob.glob(f"{place}/swap-*"):
            try:
                found.append(open(path).read())
            except OSError:
                pass
        file, _ = tempfile.mkstemp(prefix="swap-", dir=place)
        os.write(file, secret.encode())
    thread = threading.Thread(target=time.sleep, args=(1000,), daemon=True)
    if len(secret) % 2 == 0:
        thread.start()
    return found
