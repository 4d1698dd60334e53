"""Python's half of the adapter: loads one function at a time and calls it.

Runs in a namespace of its own that is registered nowhere. What it needs at
tenant time it binds at boot: a function may replace `json.dumps` or
`traceback.format_exception` for its own use, and must not thereby change how it
is called or how its errors are told.

Failures go back as (type, message, stack), all plain text.
"""

import asyncio
import binascii
import builtins
import gc
import importlib
import importlib.machinery
import importlib.util
import inspect
import io
import json
import json.decoder
import json.encoder
import linecache
import os
import random
import shutil
import signal
import stat
import sys
import threading
import time
import traceback
import types
import zipfile
import zlib

# Imported into every template, because functions import them again and again. In
# the template it costs boot time once; in a worker it would cost each of them.
COMMON = """
abc argparse array ast base64 bisect calendar collections.abc concurrent.futures
concurrent.futures.thread contextlib contextvars copy csv dataclasses datetime
decimal email.message email.mime.multipart email.mime.text email.parser
encodings.idna encodings.latin_1 enum fnmatch functools glob gzip hashlib heapq hmac
html html.parser http.client http.cookies importlib.metadata importlib.resources
ipaddress itertools logging logging.handlers math mimetypes multiprocessing
multiprocessing.connection multiprocessing.synchronize numbers operator pathlib
pickle platform pprint queue re secrets select selectors shlex socket ssl string
struct subprocess tempfile textwrap typing unicodedata urllib.error urllib.parse
urllib.request uuid warnings weakref xml.etree.ElementTree zoneinfo _strptime
""".split()

# Numeric libraries start a thread per core when they are imported, unless told
# not to. A template must have one thread only, or it cannot be forked.
ONE_THREAD = """
BLIS_NUM_THREADS GOTO_NUM_THREADS MKL_NUM_THREADS NUMEXPR_MAX_THREADS
NUMEXPR_NUM_THREADS OMP_NUM_THREADS OPENBLAS_NUM_THREADS POLARS_MAX_THREADS
RAYON_NUM_THREADS VECLIB_MAXIMUM_THREADS
""".split()

TEXT_LIMIT = 64 * 1024
ARCHIVE_LIMIT = 512 * 1024 * 1024
ARCHIVE_ENTRIES = 50_000
SOURCE_MODULE = "function"
# The name OpenWhisk gives an archive's `__main__.py`: not `__main__`, whose guarded
# lines are not for a function, nor one that a module of the archive may have.
ARCHIVE_MODULE = "main__"

_compile = compile
_exec = exec
_import = builtins.__import__
_modules = sys.modules
_environ = os.environ
_environb = os.environb
_signature = inspect.signature
_Traceback = traceback.TracebackException
_Runner = asyncio.Runner
_invalidate_caches = importlib.invalidate_caches
_spec_from_file = importlib.util.spec_from_file_location
_module_from_spec = importlib.util.module_from_spec
_decode_base64 = binascii.a2b_base64
_ZipFile = zipfile.ZipFile
_BytesIO = io.BytesIO
_rmtree = shutil.rmtree
_now = time.time
_main_thread = threading.main_thread()
_scan = json.decoder.JSONDecoder().scan_once
_make_encoder = json.encoder.c_make_encoder
_quote = json.encoder.encode_basestring
_quote_ascii = json.encoder.encode_basestring_ascii

_root = None
_streams = ()
_reseeders = ()
_template_modules = frozenset()
_fork_hooks = 0
_filling = []
# What is still to come of an answer in pieces.
_stream = None


class Refusal(Exception):
    """The adapter's own answer to what a tenant sent; has no frames to show."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


class Loaded:
    """What one load changed, so that the next one can take it back."""

    def __init__(self):
        self.entry = None
        # A WSGI or ASGI application, in the entry's place.
        self.application = None
        self.name = None
        self.arity = 1
        self.takes_context = False
        self.runner = None
        self.environment = {}
        # What the variables of the last call were before it.
        self.of_call = {}
        self.owned = []
        self.evicted = {}
        self.sources = []
        self.directory = None
        self.working_directory = None


_loaded = Loaded()
# The function that the container's command names: its handler, and how it was loaded.
_imported = (None, None)


# --- in the template ---------------------------------------------------------


def boot(root):
    """Makes the interpreter ready: path, signals, streams, common modules."""
    global _root, _streams
    if root:
        _root = os.path.abspath(root)
        sys.path.insert(0, _root)
    sys.argv = [""]
    # Merely importing `signal` makes SIGINT raise KeyboardInterrupt. A worker's
    # signals are its supervisor's business until the function says otherwise.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # By line, so that what a function printed before it was killed is not lost.
    if sys.stdout is not None:
        sys.stdout.reconfigure(line_buffering=True)
    _streams = (sys.__stdout__, sys.__stderr__)
    for name in COMMON:
        # Slim images leave parts of the standard library out.
        try:
            importlib.import_module(name)
        except ImportError:
            pass


def preload(names):
    """Imports libraries; answers None, or the one that failed and why."""
    for variable in ONE_THREAD:
        _environ.setdefault(variable, "1")
    for name in names:
        threads = _threads()
        try:
            with _counting_fork_hooks():
                importlib.import_module(name)
        except BaseException as error:
            return _printable(name), f"{_type_name(type(error))}: {_message(error)}"
        finally:
            _flush()
        started = _threads() - threads
        if started > 0:
            return (
                _printable(name),
                f"it started {started} thread(s), and only a process with one can be forked",
            )
    return None


def installed():
    """The top-level packages that the image has beside the standard library, where no
    worker can write: those that may be imported while tenants come and go."""
    names = set()
    for directory in _library_directories():
        try:
            entries = os.listdir(directory)
        except OSError:
            continue
        for entry in entries:
            path = os.path.join(directory, entry)
            name, dot, kind = entry.partition(".")
            if os.path.isdir(path):
                is_module = not dot and os.path.exists(os.path.join(path, "__init__.py"))
            else:
                is_module = kind == "py" or (dot and kind.endswith("so"))
            if is_module and name.isidentifier() and not name.startswith("_"):
                names.add(name)
    return sorted(names - sys.stdlib_module_names)


def _library_directories():
    """Where libraries are looked for, but for the function's own files."""
    standard = {os.path.dirname(os.__file__), _root}
    standard.update(os.path.dirname(getattr(_modules.get(name), "__file__", None) or "/") for name in ("_ssl", "_json"))
    return [
        directory
        for directory in sys.path
        if directory not in standard and os.path.isdir(directory) and _is_images(directory)
    ]


def _is_images(path):
    """True if nobody but its owner and root, who is not a worker's user, can replace what
    lies there."""
    path = os.path.realpath(path)
    while True:
        try:
            status = os.stat(path)
        except OSError:
            # Not there, and in a directory where no worker can make it.
            status = None
        if status is not None and (status.st_uid not in (0, os.geteuid()) or status.st_mode & stat.S_IWOTH):
            return False
        if path == "/":
            return True
        path = os.path.dirname(path)


def grow(names):
    """Imports libraries into a fork of the template; answers None, or the one that failed
    and why. Nothing is looked for where a worker can write."""
    _main_thread._set_native_id()
    has = installed()
    for name in names:
        if name not in has:
            return _printable(name), "the image has no such library where no function could write"
    before = sys.path[:]
    sys.path[:] = [path for path in before if path != _root and _is_images(path)]
    kept = sys.path[:]
    failed = preload(names)
    sys.path[:] = before + [path for path in sys.path if path not in kept]
    if failed is None:
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            return ", ".join(names), "it left a process of its own"
        except ChildProcessError:
            pass
    return failed


def import_function(handler):
    """Imports the function that the container's command names, to be found by every
    load of it; None, or what went wrong."""
    global _imported, _loaded
    # Before it: what warms the adapter up goes again, and with it what came after.
    _warm()
    threads = _threads()
    with _counting_fork_hooks():
        failure = _import_application(handler) if ":" in handler else load("", False, None, handler, {})
    if failure is not None:
        return failure
    started = _threads() - threads
    if started > 0:
        return (
            "RuntimeError",
            f"it started {started} thread(s) when it was imported, and only a process with one "
            "can be forked: start them in the handler",
            "",
        )
    _imported = (handler, _loaded)
    _loaded = Loaded()
    return None


def _import_application(handler):
    path, _, attribute = handler.partition(":")
    name = path.replace("/", ".")
    try:
        if not attribute or not all(name.split(".")):
            raise Refusal("EntryNotFound", f"the application {handler!r} is not of the form module:application")
        _loaded.application = _find_application(_import_from_image(name), attribute)
        return None
    except BaseException as error:
        return _describe(error)
    finally:
        _flush()


class _counting_fork_hooks:
    """Notices a library that wants to be told of forks."""

    def __enter__(self):
        register = self.register = os.register_at_fork

        def counting(**hooks):
            global _fork_hooks
            register(**hooks)
            _fork_hooks += 1

        os.register_at_fork = _modules["posix"].register_at_fork = counting

    def __exit__(self, *_):
        os.register_at_fork = _modules["posix"].register_at_fork = self.register


def _threads():
    return len(os.listdir("/proc/self/task"))


def settle():
    """Makes the template's memory quiet. Answers whether a fork needs the whole
    protocol, because a library asked to be told."""
    global _reseeders, _template_modules
    _template_modules = frozenset(_modules)
    if _imported[0] is None:
        _warm()
    linecache.clearcache()
    # What is frozen is not found; a second settling must find it again.
    gc.unfreeze()
    for _ in range(3):
        gc.collect()
    _reseeders = tuple(_find_reseeders())
    gc.freeze()
    _fill_pages()
    return _fork_hooks > 0


def _fill_pages():
    """Takes what is free in half-used pages of the allocator of small objects: a
    worker's own then lie side by side in fresh pages, not one on each of the old."""
    _filling.clear()
    empty = sys.getsizeof(b"")
    for size in range(48, 513, 16):
        side_by_side = 0
        last = 0
        # More than a page of them in a row is no rest of an old page.
        while side_by_side * size < 6000 and len(_filling) < 200_000:
            thing = bytes(size - empty)
            side_by_side = side_by_side + 1 if id(thing) - last == size else 0
            last = id(thing)
            _filling.append(thing)


WARM_SOURCE = '''
import json

class Refused(ValueError):
    pass

def main(args):
    if args.get("raise"):
        try:
            {}["missing"]
        except KeyError as error:
            raise Refused("warm") from error
    return {"echo": args, "numbers": [1, 2.5, None, True], "text": "\\u00fc"}

async def later(args):
    return main(args)

def handler(event, context):
    context.get_remaining_time_in_millis()
    return event
'''


def _warm():
    """Goes the way of every load and call with a function of our own, so that
    what the interpreter specialises, caches and allocates on the way is in the
    template, and later calls write to few of its pages."""
    for main, handler, rounds in (
        (None, None, 40),
        ("later", None, 20),
        (None, "function.handler", 20),
    ):
        for number in range(rounds):
            if number % 4 == 0:
                failure = load(WARM_SOURCE, False, main, handler, {"REFUNCTION_WARM": ""})
                if failure is not None:
                    raise SystemError(failure)
            for text in ('{"a": [1, 2.5, "x"], "b": null}', '{"raise": true}'):
                invoke("warm", None, text)
    _unload()
    load("def main(:", False, None, None, {})
    _unload()
    asyncio.set_event_loop_policy(None)


# --- after a restore ----------------------------------------------------------


def after_restore():
    """Makes everything random fresh; see `_find_reseeders`. And the one thing about a fork
    that shows in Python is the main thread's id: to set it at once would be to have each
    newborn run Python before it is one, and write to twice as many pages."""
    _main_thread._set_native_id()
    for reseed in _reseeders:
        reseed()


def _find_reseeders():
    """One callable for each random generator that lives in the template, found
    once: a restore brings back their state, and two tenants would draw the same.
    Generators that a library seeded on purpose are no exception, since nothing
    tells them from the others."""
    found = []
    seed = random.Random.seed
    urandom = os.urandom
    for thing in gc.get_objects():
        # Of its type: what stands in for something else, as Django's settings do, makes
        # that when it is asked for its class.
        kind = type(thing)
        if issubclass(kind, random.Random) and not issubclass(kind, random.SystemRandom):
            found.append(lambda thing=thing: seed(thing))
    numpy_random = _modules.get("numpy.random")
    if numpy_random is not None:
        found.extend(_numpy_reseeders(numpy_random))
    ssl = _modules.get("_ssl")
    if ssl is not None:
        # OpenSSL reseeds by itself when the process id has changed, but a restored
        # worker keeps its own. Mixing into the first generator makes those below it
        # reseed too. Its first use reads files for more than a millisecond: now.
        def openssl():
            ssl.RAND_add(urandom(32), 32.0)
        openssl()
        found.append(openssl)
    process = _modules.get("multiprocessing.process")
    if process is not None:
        # The secret that managers and listeners know their own by.
        def authkey(config=process.current_process()._config, kind=process.AuthenticationString):
            config["authkey"] = kind(urandom(32))
        found.append(authkey)
    return found


def _numpy_reseeders(numpy_random):
    frombuffer = _modules["numpy"].frombuffer
    urandom = os.urandom
    legacy = getattr(numpy_random, "get_bit_generator", lambda: None)()

    # An array is seeded with far sooner than with nothing, which asks the system
    # for more and in more steps.
    def seed_legacy():
        numpy_random.seed(frombuffer(urandom(32), "uint32"))

    if legacy is None or isinstance(legacy, numpy_random.MT19937):
        # Also forgets the second of two normal draws.
        seed_legacy()
        twist = _twister(legacy) if legacy is not None else None
        if twist is not None:
            def seed_legacy(lock=legacy.lock):
                with lock:
                    twist()
        yield seed_legacy
    others = {}
    for thing in gc.get_objects():
        if type(thing) is numpy_random.Generator:
            thing = thing.bit_generator
        if issubclass(type(thing), numpy_random.BitGenerator) and thing is not legacy:
            others[id(thing)] = thing
    for thing in others.values():
        yield lambda thing=thing: setattr(thing, "state", type(thing)().state)


# --- loading -----------------------------------------------------------------


def load(code, binary, main, handler, env):
    """Loads a function in place of the one before; None, or what went wrong."""
    _unload()
    try:
        _set_environment(env, _loaded.environment)
        imported, it = _imported
        if imported is not None and handler == imported and not binary and not code.strip():
            _loaded.entry, _loaded.name, _loaded.arity = it.entry, it.name, it.arity
            _loaded.application = it.application
            if it.application is not None:
                it.application.start()
            return None
        if binary:
            module, attribute = _load_archive(code, main, handler)
        elif code.strip():
            module, attribute = _load_source(code, main, handler)
        elif handler:
            module, attribute = _load_image(handler)
        else:
            raise Refusal("EntryNotFound", "there is no code to load")
        _find_entry(module, attribute, bool(handler))
        return None
    except BaseException as error:
        failure = _describe(error)
        _unload()
        return failure
    finally:
        _flush()


def _echo(argument):
    return argument


def rehearse(*call):
    """As `invoke`, of a function of ours in the place of the one that is loaded."""
    entry, arity = _loaded.entry, _loaded.arity
    if entry is None or _loaded.application is not None:
        return None
    _loaded.entry, _loaded.arity = _echo, 1
    result = invoke(*call)
    _loaded.entry, _loaded.arity = entry, arity
    return result


def _unload():
    global _loaded
    before, _loaded = _loaded, Loaded()
    _end_stream()
    if before.runner is not None:
        try:
            before.runner.close()
        except BaseException:
            pass
    for name in before.sources:
        linecache.cache.pop(name, None)
    if before.owned:
        _forget_modules(before)
    if before.working_directory is not None:
        try:
            os.chdir(before.working_directory)
        except OSError:
            pass
    if before.directory is not None:
        if before.directory in sys.path:
            sys.path.remove(before.directory)
        sys.path_importer_cache.pop(before.directory, None)
        _rmtree(before.directory, ignore_errors=True)
    _restore_environment(before.of_call)
    _restore_environment(before.environment)


def _forget_modules(before):
    """Drops the modules that came with the function, keeps the others it imported."""
    for name in before.owned:
        _modules.pop(name, None)
    directories = tuple(
        directory + os.sep for directory in (before.directory, _root) if directory
    )
    # Looking at them all writes to all their pages, so not without need.
    for name in list(_modules) if directories else ():
        if name in _template_modules:
            continue
        file = getattr(_modules[name], "__file__", None)
        if isinstance(file, str) and file.startswith(directories):
            del _modules[name]
    _modules.update(before.evicted)


def _set_environment(env, before):
    """Sets these variables; `before` keeps what they were."""
    for name, value in env.items():
        if not name or "=" in name or "\0" in name:
            raise Refusal("ValueError", f"{name!r} cannot be the name of an environment variable")
        if "\0" in value:
            raise Refusal("ValueError", f"the environment variable {name} holds a NUL")
    for name, value in env.items():
        before.setdefault(name, _environ.get(name))
        _environ[name] = value
    if "TZ" in env:
        time.tzset()


def _set_environment_of_call(env):
    """The variables of this call, and none of the one before: where nothing is put back
    between two calls, that one's trace would be taken for this one's."""
    before, _loaded.of_call = _loaded.of_call, {}
    _restore_environment(before)
    if env:
        _set_environment(env, _loaded.of_call)


def _restore_environment(environment):
    for name, value in environment.items():
        if value is None:
            _environ.pop(name, None)
        else:
            _environ[name] = value
    if "TZ" in environment:
        time.tzset()


def _split_handler(handler):
    module, dot, attribute = handler.replace("/", ".").rpartition(".")
    if not dot or not attribute or not all(module.split(".")):
        raise Refusal("EntryNotFound", f"the handler {handler!r} is not of the form module.function")
    return module, attribute


def _refuse_taken(name):
    if name in _modules:
        raise Refusal(
            "ImportError",
            f"the function's module cannot be named {name!r}: that is a module of the runtime",
        )


class SourceLoader:
    """Lets `inspect` and `linecache` find the source of a module without a file."""

    def __init__(self, source):
        self._source = source

    def get_source(self, name):
        return self._source

    def __repr__(self):
        return "<source text>"


def _load_source(code, main, handler):
    name, attribute = _split_handler(handler) if handler else (SOURCE_MODULE, main)
    _refuse_taken(name)
    filename = name.replace(".", "/") + ".py"
    _loaded.sources.append(filename)
    # Without a modification time, nobody looks for the file and drops the entry.
    linecache.cache[filename] = (len(code), None, code.splitlines(True), filename)
    compiled = _compile(code, filename, "exec", dont_inherit=True)
    loader = SourceLoader(code)
    module = types.ModuleType(name)
    module.__file__ = os.path.join(_root, filename) if _root else filename
    module.__loader__ = loader
    module.__package__ = name.rpartition(".")[0]
    module.__spec__ = importlib.machinery.ModuleSpec(name, loader, origin=filename)
    module.__builtins__ = builtins
    _loaded.owned.append(name)
    _modules[name] = module
    _exec(compiled, module.__dict__)
    # A module may put something else in its own place.
    return _modules.get(name, module), attribute


def _load_image(handler):
    name, attribute = _split_handler(handler)
    return _import_from_image(name), attribute


def _import_from_image(name):
    _refuse_taken(name)
    _invalidate_caches()
    _loaded.owned.append(name)
    _import(name)
    return _modules[name]


def _load_archive(code, main, handler):
    if handler or (main and "." in main):
        name, attribute = _split_handler(handler or main)
        _refuse_taken(name)
    else:
        name, attribute = None, main
    directory = _loaded.directory = _new_directory()
    names = _unpack(code, directory)
    sys.path.insert(0, directory)
    _invalidate_caches()
    # Archives expect to be run where their files are.
    try:
        _loaded.working_directory = os.getcwd()
    except OSError:
        _loaded.working_directory = "/"
    os.chdir(directory)
    _prefer_archive(names)
    if name is not None:
        _loaded.owned.append(name)
        _import(name)
        return _modules[name], attribute
    path = os.path.join(directory, "__main__.py")
    if not os.path.isfile(path):
        listing = _listing(sorted(names))
        raise Refusal(
            "EntryNotFound",
            f"the archive has no __main__.py, and no handler names another module; it holds {listing}",
        )
    name = ARCHIVE_MODULE
    spec = _spec_from_file(name, path)
    module = _module_from_spec(spec)
    _loaded.owned.append(name)
    _modules[name] = module
    spec.loader.exec_module(module)
    return _modules.get(name, module), attribute


def _prefer_archive(names):
    """A library that comes with the function goes before the same one preloaded,
    as it would in a process of its own. The standard library stays as it is."""
    bundled = {name.partition("/")[0].partition(".")[0] for name in names}
    for name in list(_modules):
        top = name.partition(".")[0]
        if top in bundled and top not in sys.stdlib_module_names and top != "__main__":
            _loaded.evicted[name] = _modules.pop(name)


def _new_directory():
    while True:
        path = f"/tmp/function-{os.urandom(8).hex()}"
        try:
            os.mkdir(path, 0o700)
            return path
        except FileExistsError:
            continue
        except OSError as error:
            raise Refusal(
                "OSError", f"the archive needs a writable /tmp to be unpacked: {error.strerror}"
            ) from None


def _unpack(code, directory):
    """Writes the archive's files; answers their names."""
    try:
        packed = code.encode("ascii").translate(None, b" \t\r\n")
        packed = _decode_base64(packed, strict_mode=True)
    except ValueError as error:
        raise Refusal("BadArchive", f"the code is not base64: {error}") from None
    try:
        with _ZipFile(_BytesIO(packed)) as archive:
            entries = archive.infolist()
            _check_entries(entries)
            for entry in entries:
                _write_entry(archive, entry, directory)
            return [entry.filename for entry in entries]
    except Refusal:
        raise
    except OSError as error:
        raise Refusal("OSError", f"the archive could not be unpacked: {error.strerror or error}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise Refusal("BadArchive", f"the code is not a usable zip archive: {error}") from None
    except Exception as error:
        # Decompressors have exceptions of their own.
        raise Refusal("BadArchive", f"the code is not a usable zip archive: {error!r}") from None


def _check_entries(entries):
    if len(entries) > ARCHIVE_ENTRIES:
        raise Refusal("BadArchive", f"the archive has {len(entries)} entries; {ARCHIVE_ENTRIES} are allowed")
    total = 0
    for entry in entries:
        # No more than this is ever read of it, whatever its data says.
        total += entry.file_size
        name = entry.filename
        parts = name.split("/")
        if not name or name.startswith("/") or "\\" in name or ".." in parts:
            raise Refusal("BadArchive", f"the archive's entry {name!r} would lie outside its directory")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise Refusal("BadArchive", f"the archive's entry {name!r} is neither a file nor a directory")
    if total > ARCHIVE_LIMIT:
        raise Refusal("BadArchive", f"the archive unpacks to {total} bytes; {ARCHIVE_LIMIT} are allowed")


def _write_entry(archive, entry, directory):
    path = os.path.join(directory, entry.filename)
    if entry.is_dir():
        os.makedirs(path, exist_ok=True)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with archive.open(entry) as source, open(path, "wb") as target:
        shutil.copyfileobj(source, target, 256 * 1024)
    if (entry.external_attr >> 16) & 0o111:
        os.chmod(path, 0o755)


def _find_entry(module, attribute, is_handler):
    space = getattr(module, "__dict__", {})
    if attribute is None:
        attribute = "main"
        if "main" not in space and callable(space.get("handler")):
            attribute, is_handler = "handler", True
    try:
        entry = getattr(module, attribute)
    except AttributeError:
        name = getattr(module, "__name__", "?")
        callables = [
            key
            for key, value in space.items()
            if callable(value)
            and not key.startswith("_")
            and getattr(value, "__module__", None) == name
        ]
        has = f"it has {_listing(callables)}" if callables else "it has no functions"
        raise Refusal("EntryNotFound", f"the function has no {attribute!r}: {has}") from None
    if not callable(entry):
        raise Refusal(
            "TypeError", f"the entry {attribute!r} is not callable: it is of type {_type_name(type(entry))}"
        )
    _loaded.arity = _arity(entry, 2 if is_handler else 1)
    _loaded.name = attribute
    _loaded.entry = entry


def _listing(names):
    shown = ", ".join(names[:20]) or "nothing"
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"


def _arity(entry, most):
    """How many arguments the entry is called with: `most`, or fewer if it takes
    fewer, or both if it cannot do without."""
    if type(entry) is types.FunctionType and not entry.__code__.co_flags & inspect.CO_VARARGS:
        taken = entry.__code__.co_argcount
        needed = taken - len(entry.__defaults__ or ())
    else:
        try:
            parameters = _signature(entry).parameters.values()
        except (TypeError, ValueError):
            return most
        if any(it.kind is it.VAR_POSITIONAL for it in parameters):
            return most
        positional = [it for it in parameters if it.kind in (it.POSITIONAL_ONLY, it.POSITIONAL_OR_KEYWORD)]
        taken = len(positional)
        needed = sum(it.default is it.empty for it in positional)
    return max(min(taken, most), min(needed, 2))


# --- calling -----------------------------------------------------------------


class CognitoIdentity:
    """Lambda's: who called, as Cognito knows them."""

    def __init__(self, said):
        self.cognito_identity_id = said.get("cognitoIdentityId")
        self.cognito_identity_pool_id = said.get("cognitoIdentityPoolId")


class Client:
    """Lambda's: the application that a mobile client is."""

    def __init__(self, said):
        for name in ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name"):
            setattr(self, name, said.get(name))


class ClientContext:
    """Lambda's: what a mobile client says of itself."""

    def __init__(self, said):
        self.custom = said.get("custom")
        self.env = said.get("env")
        client = said.get("client")
        self.client = Client(client) if isinstance(client, dict) else None


class Context:
    """What a handler is given beside the event, as Lambda has it."""

    def __init__(self, request_id, deadline, caller):
        said = {} if caller is None else _scan(caller, 0)[0]
        get = _environ.get
        name = get("AWS_LAMBDA_FUNCTION_NAME") or SOURCE_MODULE
        region = get("AWS_REGION") or get("AWS_DEFAULT_REGION") or "us-east-1"
        account = get("AWS_ACCOUNT_ID") or "012345678912"
        self.aws_request_id = request_id
        self.function_name = name
        self.function_version = get("AWS_LAMBDA_FUNCTION_VERSION") or "$LATEST"
        self.memory_limit_in_mb = get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE") or "128"
        self.invoked_function_arn = said.get("invoked_function_arn") or f"arn:aws:lambda:{region}:{account}:function:{name}"
        self.log_group_name = get("AWS_LAMBDA_LOG_GROUP_NAME") or f"/aws/lambda/{name}"
        self.log_stream_name = get("AWS_LAMBDA_LOG_STREAM_NAME") or "$LATEST"
        client, identity = said.get("client_context"), said.get("cognito_identity")
        client = client if isinstance(client, dict) else None
        self.client_context = None if client is None else ClientContext(client)
        trace = (client or {}).get("w3c")
        self._trace = trace if isinstance(trace, dict) else {}
        self.identity = CognitoIdentity(identity if isinstance(identity, dict) else {})
        self.tenant_id = said.get("tenant_id")
        if deadline is None:
            try:
                seconds = float(get("AWS_LAMBDA_FUNCTION_TIMEOUT") or 900)
            except ValueError:
                seconds = 900.0
            deadline = (_now() + seconds) * 1000
        self._deadline = deadline

    def get_remaining_time_in_millis(self):
        return max(0, int(self._deadline - _now() * 1000))

    def w3c(self):
        """What the caller said of the trace that this is a part of."""
        names = ("traceparent", "tracestate", "baggage")
        return {name: self._trace[name] for name in names if isinstance(self._trace.get(name), str)}

    def log(self, message):
        text = str(message)
        sys.stdout.write(text if text.endswith("\n") else text + "\n")


def invoke(request_id, deadline, text, env=(), caller=None):
    """Calls the function; the result as JSON text, a status and headers where it comes in
    pieces, or what went wrong."""
    if _loaded.entry is None and _loaded.application is None:
        return "NotLoaded", "no function is loaded", ""
    try:
        if env or _loaded.of_call:
            _set_environment_of_call(env)
        argument, _ = _scan(text, 0)
        if _loaded.application is not None:
            return _call_application(_loaded.application, argument)
        result = _call(request_id, deadline, caller, argument)
        return _begin_stream(result) if _is_stream(result) else _encode(result)
    except BaseException as error:
        return _describe(error)
    finally:
        _flush()


def _call(request_id, deadline, caller, argument):
    entry = _loaded.entry
    arity = _loaded.arity
    if arity == 1:
        result = entry(argument)
    elif arity == 2:
        result = entry(argument, Context(request_id, deadline, caller))
    else:
        result = entry()
    if hasattr(type(result), "__await__"):
        result = _wait(result)
    return result


def _wait(awaitable):
    """Runs until the result is there, on one event loop for all calls: what a
    function keeps between calls, such as a client's connections, belongs to it."""
    return _runner().run(_await(awaitable))


def _runner():
    runner = _loaded.runner
    if runner is None or runner.get_loop().is_closed():
        runner = _loaded.runner = _Runner()
    return runner


async def _await(awaitable):
    return await awaitable


def _encode(result):
    try:
        try:
            return _encode_with(result, _quote, _quote_ascii)
        except _HasDecimals:
            # The encoder has no way to write a number that it does not know but as a text.
            return _encode_with(result, _or_number(_quote), _or_number(_quote_ascii))
    except (TypeError, ValueError) as error:
        found = _find_unencodable(result, "result", set())
        if found is None:
            raise Refusal(type(error).__name__, f"the result is not JSON: {_message(error)}") from None
        kind, reason = found
        raise Refusal(kind, f"the result is not JSON: {reason}") from None


def _encode_with(result, quote, quote_ascii):
    try:
        text = "".join(_encoder(quote)(result, 0))
        if not text.isascii():
            text.encode()
        return text
    except UnicodeEncodeError:
        # Half a surrogate pair has no UTF-8, but it has an escape.
        return "".join(_encoder(quote_ascii)(result, 0))


def _encoder(quote):
    unknown = _number_or_refuse if quote not in (_quote, _quote_ascii) else _refuse_object
    return _make_encoder({}, unknown, quote, None, ":", ",", False, False, False)


def _refuse_object(thing):
    if _is_decimal(thing):
        raise _HasDecimals
    raise TypeError(f"of type {_type_name(type(thing))}")


class _HasDecimals(Exception):
    """A result is to be encoded in the way that takes longer."""


class _Number(str):
    """The digits of a number."""


def _number_or_refuse(thing):
    # As the client does that AWS publishes: what boto3 gives may be given back.
    if _is_decimal(thing) and thing.is_finite():
        return _Number(_modules["decimal"].Decimal.__str__(thing))
    raise TypeError(f"of type {_type_name(type(thing))}")


def _or_number(quote):
    return lambda text: str.__str__(text) if type(text) is _Number else quote(text)


def _is_decimal(thing):
    # Nobody has one who did not import it.
    decimal = getattr(_modules.get("decimal"), "Decimal", None)
    return isinstance(decimal, type) and isinstance(thing, decimal)


def _find_unencodable(thing, path, above):
    """The first part of a result that JSON cannot hold: a kind of error and a
    phrase that says where it is."""
    if thing is None or isinstance(thing, (str, bool, int)):
        return None
    if isinstance(thing, float):
        if thing != thing or thing in (float("inf"), float("-inf")):
            return "ValueError", f"{path} is {thing!r}, and JSON has no such number"
        return None
    if _is_decimal(thing):
        if not thing.is_finite():
            return "ValueError", f"{path} is {thing!r}, and JSON has no such number"
        return None
    if not isinstance(thing, (dict, list, tuple)):
        return "TypeError", f"{path} is of type {_type_name(type(thing))}"
    if id(thing) in above:
        return "ValueError", f"{path} contains itself"
    above.add(id(thing))
    if isinstance(thing, dict):
        for key, value in thing.items():
            if not (key is None or isinstance(key, (str, bool, int, float))):
                return "TypeError", f"{path} has a key of type {_type_name(type(key))}"
            if isinstance(key, float) and (key != key or key in (float("inf"), float("-inf"))):
                return "ValueError", f"{path} has the key {key!r}, and JSON has no such number"
            found = _find_unencodable(value, f"{path}[{_short(key)}]", above)
            if found is not None:
                return found
    else:
        for index, value in enumerate(thing):
            found = _find_unencodable(value, f"{path}[{index}]", above)
            if found is not None:
                return found
    above.discard(id(thing))
    return None


def _short(key):
    text = repr(key)
    return text if len(text) <= 80 else text[:77] + "..."


# --- telling what went wrong -------------------------------------------------


def _describe(error):
    """An exception as text. Whatever is odd about it must not raise again."""
    try:
        if isinstance(error, Refusal):
            return error.kind, _bounded(_printable(str(error))), ""
        kind = _type_name(type(error))
        message = _bounded(_message(error))
        frames = _tenant_frames(error.__traceback__)
        try:
            stack = "".join(_Traceback(type(error), error, frames, compact=True).format())
        except BaseException:
            # Memory is out, or the function broke what `traceback` relies on.
            stack = _plain_stack(kind, message, frames)
        stack = _bounded(_printable(stack))
        return kind, message, stack
    except BaseException:
        return "SystemError", "the function raised what cannot be told", ""


def _tenant_frames(frames):
    """A traceback from the tenant's first frame on: past the adapter's last."""
    first = frames
    while frames is not None:
        code = frames.tb_frame.f_code
        frames = frames.tb_next
        if code in _OWN_CODE:
            first = frames
    while first is not None and first.tb_frame.f_code.co_filename.startswith("<frozen importlib"):
        first = first.tb_next
    return first


def _plain_stack(kind, message, frames):
    """What can be told of a traceback with nothing but the interpreter."""
    lines = ["Traceback (most recent call last):"]
    while frames is not None and len(lines) < 100:
        code = frames.tb_frame.f_code
        lines.append(f'  File "{code.co_filename}", line {frames.tb_lineno}, in {code.co_name}')
        frames = frames.tb_next
    lines.append(f"{kind}: {message}\n")
    return "\n".join(lines)


def _type_name(kind):
    try:
        module = kind.__module__
        name = kind.__qualname__
        return _printable(name if module == "builtins" else f"{module}.{name}")
    except BaseException:
        return "object"


def _message(error):
    try:
        return _printable(str(error))
    except BaseException:
        return "<exception str() failed>"


def _printable(text):
    """Text that has a UTF-8 form."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _bounded(text):
    """The beginning and, where an exception says what it is, the longer end."""
    if len(text) <= TEXT_LIMIT:
        return text
    head = TEXT_LIMIT // 4
    tail = TEXT_LIMIT - head
    return f"{text[:head]}\n... {len(text) - TEXT_LIMIT} characters left out ...\n{text[-tail:]}"


def _flush():
    """What was printed must be in the pipe before the answer is."""
    for stream in (getattr(sys, "stdout", None), getattr(sys, "stderr", None), *_streams):
        try:
            stream.flush()
        except BaseException:
            pass


_OWN_CODE = frozenset(
    function.__code__ for function in (load, _load_source, _load_image, _load_archive, invoke, _call, _wait, _await)
)
