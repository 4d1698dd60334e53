"""Applications, a part of the adapter: WSGI (PEP 3333) and ASGI 3. Each call is a whole
HTTP request; what the application sends goes back piece by piece."""

import re
import urllib.parse

_unquote = urllib.parse.unquote
_unquote_to_bytes = urllib.parse.unquote_to_bytes
_is_coroutine_function = inspect.iscoroutinefunction
_print_exception = traceback.print_exception
_is_name = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_is_value = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch
_is_length = re.compile(r"[0-9]{1,18}").fullmatch

ASGI = {"version": "3.0", "spec_version": "2.4"}
# Told by another application by its underscores: `X_User` would be `X-User` in WSGI.
_AMBIGUOUS = "_"


def _find_application(module, path):
    """What a name such as `app:site.app` leads to, and how it is called."""
    thing = module
    for name in path.split("."):
        try:
            thing = getattr(thing, name)
        except AttributeError:
            has = _listing([key for key, value in vars(module).items() if callable(value) and not key.startswith("_")])
            raise Refusal("EntryNotFound", f"there is no {path!r} in the module: it has {has}") from None
    if not callable(thing):
        raise Refusal("TypeError", f"the application {path!r} is not callable: it is of type {_type_name(type(thing))}")
    return (_Asgi if _interface_of(thing) == "asgi" else _Wsgi)(thing)


def _interface_of(thing):
    asked = _environ.get("REFUNCTION_INTERFACE")
    if asked:
        return asked
    if isinstance(thing, type):
        # An instance for each request: awaited, or iterated over.
        return "asgi" if hasattr(thing, "__await__") else "wsgi"
    is_async = _is_coroutine_function(thing) or _is_coroutine_function(getattr(thing, "__call__", None))
    return "asgi" if is_async else "wsgi"


def _call_application(application, request):
    """The status and the headers that it answers with; the body is in hand then."""
    global _stream
    if not isinstance(request, dict):
        raise Refusal("BadRequest", "an application is called with HTTP requests, and with nothing else")
    body = _decode_base64(request.get("body") or "")
    pieces = application.begin(request, body)
    first = next(pieces, b"")
    status, headers = application.head()
    _stream = _preceded(first, pieces)
    return status, headers


def _check_head(status, headers):
    """A status and headers as text, of which every byte is a character."""
    if not 200 <= status <= 999:
        raise ValueError(f"{status} is not the status of an answer")
    headers = [(name, value.strip(" \t")) for name, value in headers]
    for name, value in headers:
        if not _is_name(name) or not _is_value(value):
            raise ValueError(f"{_short(name)}: {_short(value)} is not a header")
    lengths = [value for name, value in headers if name.lower() == "content-length"]
    if len(lengths) > 1 or not all(map(_is_length, lengths)):
        raise ValueError(f"{_short(lengths)} is not the length of an answer")
    return status, headers


def _tell(error):
    """An exception that comes when the client has its answer already."""
    try:
        _print_exception(type(error), error, _tenant_frames(error.__traceback__))
    except BaseException:
        pass


# --- WSGI ----------------------------------------------------------------------


class _Wsgi:
    def __init__(self, application):
        self._application = application
        self._head = None
        self._is_sent = False
        self._written = []

    def start(self):
        pass

    def begin(self, request, body):
        self._head = None
        self._is_sent = False
        self._written = []
        return self._pieces(self._application(_environment(request, body), self._start_response))

    def head(self):
        if self._head is None:
            raise Refusal("RuntimeError", "the application did not call start_response")
        self._is_sent = True
        return self._head

    def _start_response(self, status, headers, exc_info=None):
        if exc_info is not None:
            try:
                if self._is_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._head is not None:
            raise AssertionError("start_response was called before, and there is no exc_info")
        self._head = _check_head(int(status[:3]), [(name, value) for name, value in headers])
        return self._write

    def _write(self, piece):
        self._written.append(_checked(piece))

    def _pieces(self, result):
        try:
            # No head leaves before there is a first piece, or none is to come.
            yield from filter(None, self._taken())
            for piece in result:
                yield from filter(None, self._taken())
                if _checked(piece):
                    yield piece
            yield from filter(None, self._taken())
        finally:
            close = getattr(result, "close", None)
            try:
                if close is not None:
                    close()
            except Exception as error:
                _tell(error)

    def _taken(self):
        written, self._written = self._written, []
        return written


def _checked(piece):
    if not isinstance(piece, bytes):
        raise TypeError(f"a piece of the body is of type {_type_name(type(piece))}, and not bytes")
    return piece


def _environment(request, body):
    client = request.get("client") or ("", 0)
    server = request.get("server") or ("localhost", 80)
    path = request.get("path") or "/"
    query = request.get("query") or ""
    target = f"{path}?{query}" if query else path
    environment = {
        "REQUEST_METHOD": request.get("method") or "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": _unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "REQUEST_URI": target,
        "RAW_URI": target,
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "SERVER_PROTOCOL": f"HTTP/{request.get('version') or '1.1'}",
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": _BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in request.get("headers") or ():
        if _AMBIGUOUS in name:
            continue
        name = name.upper().replace("-", "_")
        if name not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            name = f"HTTP_{name}"
        if name in environment:
            value = f"{environment[name]}{'; ' if name == 'HTTP_COOKIE' else ','}{value}"
        environment[name] = value
    return environment


# --- ASGI ----------------------------------------------------------------------


class _Asgi:
    def __init__(self, application):
        self._application = application
        self._state = {}
        self._lifespan = None
        self._exchange = None

    def start(self):
        """Lets it begin in this worker: what it opens then is its own."""
        self._lifespan = _Lifespan(self._application, self._state)

    def begin(self, request, body):
        exchange = self._exchange = _Exchange(body)
        return _closing(_Handover(exchange.run, self._application, _scope(request, dict(self._state))))

    def head(self):
        return self._exchange.head


def _closing(items):
    try:
        yield from items
    finally:
        items.close()


def _scope(request, state):
    path = request.get("path") or "/"
    headers = request.get("headers") or ()
    client, server = request.get("client"), request.get("server")
    return {
        "type": "http",
        "asgi": dict(ASGI),
        "http_version": request.get("version") or "1.1",
        "method": request.get("method") or "GET",
        "scheme": "http",
        "path": _unquote(path),
        "raw_path": path.encode(),
        "query_string": (request.get("query") or "").encode(),
        "root_path": "",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        "client": client and tuple(client),
        "server": server and tuple(server),
        "state": state,
        "extensions": {},
    }


class _Exchange:
    """One request and its answer."""

    def __init__(self, body):
        self.head = None
        self._body = body
        self._is_over = asyncio.Event()
        self._give = None

    async def run(self, give, application, scope):
        self._give = give
        try:
            await application(scope, self._receive, self._send)
        except Exception as error:
            if not self._is_over.is_set():
                raise
            _tell(error)
        if self.head is None:
            raise Refusal("RuntimeError", "the application returned without an answer")
        if not self._is_over.is_set():
            raise Refusal("RuntimeError", "the application returned in the middle of its answer")

    async def _receive(self):
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        # A client that leaves earlier takes the worker with it.
        await self._is_over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        kind = message["type"]
        if self.head is None:
            if kind != "http.response.start":
                raise RuntimeError(f"{kind!r} was sent, and 'http.response.start' comes first")
            headers = [
                (bytes(name).decode("latin-1"), bytes(value).decode("latin-1"))
                for name, value in message.get("headers", ())
            ]
            self.head = _check_head(int(message["status"]), headers)
            piece = b""
        elif self._is_over.is_set():
            raise RuntimeError(f"{kind!r} was sent after the end of the answer")
        elif kind != "http.response.body":
            raise RuntimeError(f"{kind!r} was sent, and 'http.response.body' comes now")
        else:
            piece = bytes(message.get("body", b""))
            if not message.get("more_body", False):
                self._is_over.set()
        await self._give(piece)


class _Lifespan:
    """What an application does before its first request. It never hears of an end: a
    worker is put back, or killed."""

    def __init__(self, application, state):
        loop = _runner().get_loop()
        self._asked = False
        self._answered = loop.create_future()
        self._end = loop.create_future()
        scope = {"type": "lifespan", "asgi": dict(ASGI), "state": state}
        self._task = loop.create_task(self._run(application, scope))
        failed = loop.run_until_complete(self._answered)
        if failed is not None:
            raise Refusal("StartupFailed", f"the application failed to start: {failed}")

    async def _run(self, application, scope):
        try:
            await application(scope, self._receive, self._send)
        except Exception:
            # It does not know of this, as the specification has it.
            pass
        if not self._answered.done():
            self._answered.set_result(None)

    async def _receive(self):
        if not self._asked:
            self._asked = True
            return {"type": "lifespan.startup"}
        return await self._end

    async def _send(self, message):
        kind = message["type"]
        if kind == "lifespan.startup.complete" and not self._answered.done():
            self._answered.set_result(None)
        elif kind == "lifespan.startup.failed" and not self._answered.done():
            self._answered.set_result(str(message.get("message", "")) or "it does not say why")


_OWN_CODE |= {
    function.__code__
    for function in (
        _call_application,
        _Wsgi.begin,
        _Wsgi._pieces,
        _closing,
        _Exchange.run,
        _Lifespan.__init__,
        _Lifespan._run,
    )
}
