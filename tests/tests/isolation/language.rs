//! What CPython keeps: modules, classes, hooks, registries, caches.

use crate::case::Case;
use crate::case::Way::Rewind;
use crate::case::case;

#[rustfmt::skip]
pub const CASES: &[Case] = &[
    // Names.
    case("a global of the function's", Rewind, "globals()['secret'] = 1", "seen.append('secret' in globals())"),
    case("an attribute of a module", Rewind, "string.secret = 1", "seen.append(hasattr(string, 'secret'))"),
    case("a patched json.dumps", Rewind, "json.dumps = lambda *_, **__: 'patched'", "seen.append(json.dumps([1]))"),
    case("patched builtins", Rewind, "builtins.secret = 1; builtins.len = lambda it: 42", "seen.append([hasattr(builtins, 'secret'), len([1])])"),
    case("a patched builtins.open", Rewind, "builtins.open = lambda *_: None; builtins.__build_class__ = print", "seen += [builtins.open is __import__('io').open, builtins.__build_class__ is print]"),
    case("a patched import", Rewind, "
original = builtins.__import__
builtins.__import__ = lambda name, *rest, **named: string.__dict__.setdefault('names', []).append(name) or original(name, *rest, **named)", "
import colorsys
seen.append(getattr(string, 'names', None))"),
    case("a patched class", Rewind, "pathlib.Path.secret = lambda self: 1; json.JSONEncoder.default = None", "seen.append([hasattr(pathlib.Path, 'secret'), json.JSONEncoder.default is None])"),
    case("the code of a function", Rewind, "json.loads.__code__ = (lambda *_, **__: 'patched').__code__; json.dumps.__kwdefaults__['indent'] = 3; string.capwords.__defaults__ = ('x',)", "seen += [json.loads('1'), json.dumps({1: 2}), string.capwords('a b')]"),
    case("code that the interpreter specialised", Rewind, "for _ in range(500): string.capwords('a b')", "seen.append(string.capwords.__code__._co_code_adaptive.hex())"),
    case("a subclass of the template's", Rewind, "string.held = type('Secret', (json.JSONEncoder,), {})", "seen.append([it.__name__ for it in json.JSONEncoder.__subclasses__()])"),
    case("the environment", Rewind, "os.environ['SECRET'] = '1'; os.environ.pop('PATH', None); os.putenv('OTHER', '2')", "seen += [os.environ.get('SECRET'), os.environ.get('PATH'), bool(libc.getenv(b'SECRET')), bool(libc.getenv(b'OTHER'))]"),
    // Imports.
    case("sys.path and finders", Rewind, "sys.path.insert(0, '/tmp/secret'); sys.meta_path.clear(); sys.path_hooks.clear()", "seen += [sys.path, len(sys.meta_path), len(sys.path_hooks)]"),
    case("a finder of its own", Rewind, "
import importlib.abc, importlib.machinery
class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name == 'secretmodule': return importlib.machinery.ModuleSpec(name, self)
    def exec_module(self, module): module.secret = 1
sys.meta_path.insert(0, Finder())", "
try:
    import secretmodule
    seen.append(secretmodule.secret)
except ImportError: seen.append(None)"),
    case("sys.modules", Rewind, "sys.modules['secret'] = sys; del sys.modules['json']; import colorsys", "seen += [name in sys.modules for name in ('secret', 'json', 'colorsys')]"),
    case("caches of importers", Rewind, "
import zipimport
sys.path_importer_cache['/secret'] = None
zipimport._zip_directory_cache['/secret.zip'] = {}
__import__('importlib.machinery').machinery.SOURCE_SUFFIXES.append('.secret')", "
import zipimport
seen += ['/secret' in sys.path_importer_cache, '/secret.zip' in zipimport._zip_directory_cache, __import__('importlib.machinery').machinery.SOURCE_SUFFIXES]"),
    // Hooks.
    case("atexit", Rewind, "atexit.register(print, 'secret')", "seen.append(atexit._ncallbacks())"),
    case("collector callbacks", Rewind, "gc.callbacks.append(lambda *_: None); gc.disable(); gc.set_threshold(5); gc.set_debug(gc.DEBUG_UNCOLLECTABLE); gc.garbage.append(1)", "seen += [len(gc.callbacks), gc.isenabled(), gc.get_threshold(), gc.get_debug(), len(gc.garbage)]"),
    case("sys.settrace", Rewind, "sys.settrace(lambda *_: None); sys.setprofile(lambda *_: None); threading.settrace(print)", "seen += [sys.gettrace() is None, sys.getprofile() is None, threading._trace_hook is None]"),
    case("audit hooks", Rewind, "held = []; sys.addaudithook(lambda *_: held.append(1)); string.held = held", "os.listdir('/'); seen.append(hasattr(string, 'held'))"),
    case("hooks and streams", Rewind, "sys.excepthook = sys.displayhook = sys.unraisablehook = sys.breakpointhook = threading.excepthook = print; sys.stdout = open(os.devnull, 'w'); sys.stdin = None", "seen += [sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__, sys.stdout is sys.__stdout__, sys.unraisablehook is sys.__unraisablehook__, sys.breakpointhook is sys.__breakpointhook__, threading.excepthook is print]"),
    case("hooks of generators and coroutines", Rewind, "sys.set_asyncgen_hooks(print, print); sys.set_coroutine_origin_tracking_depth(7)", "seen += [[it is print for it in sys.get_asyncgen_hooks()], sys.get_coroutine_origin_tracking_depth()]"),
    case("hooks of forks", Rewind, "os.register_at_fork(before=lambda: setattr(string, 'forked', 1))", "
child = os.fork()
if child == 0: os._exit(0)
os.waitpid(child, 0)
seen.append(hasattr(string, 'forked'))"),
    case("tracemalloc", Rewind, "import tracemalloc; tracemalloc.start(5)", "import tracemalloc; seen.append(tracemalloc.is_tracing())"),
    case("weak references with callbacks", Rewind, "string.held = [weakref.ref(json.JSONEncoder, print), weakref.finalize(json.JSONDecoder, print)]", "seen += [weakref.getweakrefcount(json.JSONEncoder), weakref.getweakrefcount(json.JSONDecoder), len(weakref.finalize._registry)]"),
    case("a finalizer that springs later", Rewind, "
class Trap:
    def __del__(self): builtins.sprung = getattr(builtins, 'sprung', 0) + 1
gc.disable()
for _ in range(50):
    trap = Trap()
    trap.itself = trap
del trap", "
gc.collect()
seen.append(hasattr(builtins, 'sprung'))"),
    case("a generator that never ended", Rewind, "
def waiting():
    try: yield 1
    finally: builtins.ended = 1
string.held = waiting()
next(string.held)", "
if hasattr(string, 'held'): del string.held
gc.collect()
seen.append(hasattr(builtins, 'ended'))"),
    // Settings.
    case("interpreter settings", Rewind, "sys.setrecursionlimit(77777); sys.setswitchinterval(0.5); sys.set_int_max_str_digits(0); sys.setdlopenflags(2 | 256)", "seen += [sys.getrecursionlimit(), sys.getswitchinterval(), sys.get_int_max_str_digits(), sys.getdlopenflags()]"),
    case("attributes of sys", Rewind, "sys.argv.append('secret'); sys.dont_write_bytecode = True; sys.tracebacklimit = 0; sys.prefix = '/secret'; sys.warnoptions.append('error'); sys._xoptions['secret'] = 1", "seen += [sys.argv, sys.dont_write_bytecode, hasattr(sys, 'tracebacklimit'), sys.prefix, sys.warnoptions, len(sys._xoptions)]"),
    case("stack size of threads", Rewind, "threading.stack_size(1 << 20)", "seen.append(threading.stack_size())"),
    case("the buffering of a stream", Rewind, "sys.stdout.reconfigure(line_buffering=False); sys.stderr.reconfigure(line_buffering=False, write_through=False)", "seen += [sys.stdout.line_buffering, sys.stderr.line_buffering, sys.stderr.write_through]"),
    case("decimal, warnings, logging", Rewind, "decimal.getcontext().prec = 3; warnings.simplefilter('ignore'); logging.getLogger().addHandler(logging.NullHandler()); logging.disable()", "seen += [str(decimal.Decimal(1) / 3), len(warnings.filters), len(logging.getLogger().handlers), logging.root.manager.disable]"),
    case("decimal's default context", Rewind, "decimal.DefaultContext.prec = 5; decimal.DefaultContext.traps[decimal.Inexact] = True; decimal.setcontext(decimal.Context(prec=4))", "seen += [decimal.DefaultContext.prec, decimal.DefaultContext.traps[decimal.Inexact], decimal.Context().prec, decimal.getcontext().prec]"),
    case("the locale and the time zone", Rewind, "os.environ['TZ'] = 'Asia/Tokyo'; time.tzset(); locale.setlocale(locale.LC_ALL, 'C')", "seen += [time.tzname, time.localtime(0).tm_hour, locale.setlocale(locale.LC_ALL)]"),
    case("a default timeout of sockets", Rewind, "socket.setdefaulttimeout(0.25)", "seen.append(socket.getdefaulttimeout())"),
    case("a directory for temporary files", Rewind, "import tempfile; tempfile.tempdir = '/var/tmp'; tempfile.template = 'secret'", "import tempfile; seen += [tempfile.tempdir, tempfile.template]"),
    case("the way of starting processes", Rewind, "import multiprocessing; multiprocessing.set_start_method('spawn')", "import multiprocessing; seen.append(multiprocessing.get_start_method(allow_none=True))"),
    case("an opener of URLs", Rewind, "import ssl, urllib.request; urllib.request.install_opener(urllib.request.build_opener()); ssl._create_default_https_context = ssl._create_unverified_context", "import ssl, urllib.request; seen += [urllib.request._opener is None, ssl._create_default_https_context is ssl.create_default_context]"),
    // Registries.
    case("a codec", Rewind, "import codecs; codecs.register(lambda name: codecs.lookup('utf-8') if name == 'secret' else None); codecs.register_error('secret', codecs.ignore_errors)", "
import codecs
for ask in (codecs.lookup, codecs.lookup_error):
    try: ask('secret'); seen.append(True)
    except LookupError: seen.append(False)"),
    case("aliases of encodings", Rewind, "import encodings.aliases; encodings.aliases.aliases['secret_one'] = 'utf_8'; 'x'.encode('cp500')", "
import encodings.aliases
seen += ['secret_one' in encodings.aliases.aliases, 'cp500' in encodings._cache]"),
    case("reducers of pickle and copy", Rewind, "import copyreg; copyreg.pickle(type(json), lambda it: (str, ('secret',))); copyreg.add_extension('json', 'dumps', 77)", "
import copyreg, pickle
seen.append(77 in copyreg._inverted_registry)
try: seen.append(pickle.loads(pickle.dumps(json)))
except TypeError: seen.append(None)"),
    case("an abstract class's registry", Rewind, "import collections.abc; collections.abc.Mapping.register(int)", "import collections.abc; seen.append(isinstance(1, collections.abc.Mapping))"),
    case("types of files", Rewind, "import mimetypes; mimetypes.add_type('secret/type', '.secret')", "import mimetypes; seen.append(mimetypes.guess_type('x.secret'))"),
    case("names of loggers and levels", Rewind, "logging.getLogger('secret').setLevel(3); logging.addLevelName(3, 'SECRET'); logging.setLogRecordFactory(dict); logging.raiseExceptions = False", "seen += ['secret' in logging.root.manager.loggerDict, logging.getLevelName(3), logging.getLogRecordFactory() is dict, logging.raiseExceptions]"),
    case("another interpreter", Rewind, "import _xxsubinterpreters; string.held = _xxsubinterpreters.create()", "import _xxsubinterpreters; seen.append(len(_xxsubinterpreters.list_all()))"),
    // Caches.
    case("the cache of patterns", Rewind, "import re; re.compile('secret.pattern+')", "import re; seen.append(any('secret' in str(key) for key in re._cache))"),
    case("caches of functions", Rewind, "import fnmatch; [fnmatch.fnmatch('x', f'secret{number}*') for number in range(9)]; fnmatch._compile_pattern('a')", "import fnmatch; seen.append(fnmatch._compile_pattern.cache_info()[1:])"),
    case("the cache of lines", Rewind, "import linecache; linecache.cache['/secret'] = (1, None, ['secret'], '/secret')", "import linecache; seen.append(linecache.getline('/secret', 1))"),
    case("caches of struct and typing", Rewind, "struct.calcsize('77i'); import typing; typing.Tuple[int, 'secret']; typing.Optional['secret']", "import typing; seen.append([it.cache_info().currsize if hasattr(it, 'cache_info') else 0 for it in typing._caches] if hasattr(typing, '_caches') else [it.__self__.cache_info().currsize if hasattr(it, '__self__') else it.__closure__ and 0 for it in typing._cleanups])"),
    case("the state of random", Rewind, "__import__('random').seed(7)", "import random; seen.append(random.random() == random.Random(7).random())"),
    // Threads of control.
    case("values that belong to a thread", Rewind, "threading.current_thread().name = 'secret'; asyncio.get_event_loop_policy()._local.secret = 1", "seen += [threading.current_thread().name, hasattr(asyncio.get_event_loop_policy()._local, 'secret')]"),
    case("context variables", Rewind, "import contextvars; string.held = contextvars.ContextVar('secret'); string.held.set(1)", "import contextvars; seen.append([it.name for it in contextvars.copy_context() if it.name == 'secret'])"),
    case("an event loop", Rewind, "loop = asyncio.new_event_loop(); asyncio.set_event_loop(loop)", "seen.append(asyncio.get_event_loop_policy()._local._loop is None)"),
    case("an event loop's policy", Rewind, "asyncio.set_event_loop_policy(type('Secret', (asyncio.DefaultEventLoopPolicy,), {})())", "seen.append(type(asyncio.get_event_loop_policy()).__name__)"),
    case("a held lock", Rewind, "logging._acquireLock(); __import__('_imp').acquire_lock()", "seen += [logging._lock._is_owned(), __import__('_imp').lock_held()]"),
    // Past the language: through its memory.
    case("bytes of an interned constant", Rewind, "
target = string.ascii_lowercase
ctypes.memset(id(target) + object.__basicsize__ + 32, ord('Z'), 5)", "seen.append(string.ascii_lowercase)"),
    case("the value of a small number", Rewind, "ctypes.c_uint32.from_address(id(int('25' + '0')) + 24).value = 199", "seen.append(str(int('2' + '50')))"),
    case("the type of None", Rewind, "
gc.get_referents(type(None).__dict__)[0]['secret'] = 1
ctypes.pythonapi.PyType_Modified(ctypes.py_object(type(None)))", "seen.append(hasattr(None, 'secret'))"),
    case("a slot of a type", Rewind, "
REPR = 88
ctypes.c_void_p.from_address(id(range) + REPR).value = ctypes.c_void_p.from_address(id(object) + REPR).value", "seen.append(repr(range(3)).startswith('range('))"),
    case("an immortal's count of references", Rewind, "ctypes.c_ssize_t.from_address(id(Ellipsis)).value += 1 << 40", "seen.append(sys.getrefcount(Ellipsis) > 1 << 30)"),
];
