"""Applications without a framework: one that speaks WSGI, one that speaks ASGI, and ways to
name them."""

import asyncio
import functools
import json
import os
import sys
import time

count = 0


class NoGood(ValueError):
    pass


def seen(**what):
    global count
    count += 1
    return json.dumps({"count": count, **what}).encode()


def parameters(query):
    return dict(pair.split("=", 1) for pair in query.split("&") if "=" in pair)


def plan(query):
    """What the query asks to be answered: a status, headers, pieces, and what then."""
    asked = parameters(query)
    headers = [tuple(line.split(":", 1)) for line in asked.get("headers", "").split("|") if line]
    return int(asked.get("status", "200")), headers, asked.get("pieces", "").split("|"), asked.get("then")


def happen(then):
    if then == "raise":
        raise NoGood("no good")
    if then == "exit":
        os._exit(3)


def wsgi(environ, start_response):
    if environ["PATH_INFO"] == "/plan":
        return planned(environ, start_response)
    if environ["PATH_INFO"] == "/silent":
        return []
    body = seen(
        interface="wsgi",
        version=f"{sys.version_info[0]}.{sys.version_info[1]}",
        method=environ["REQUEST_METHOD"],
        path=environ["PATH_INFO"].encode("latin-1").decode(),
        raw=environ["REQUEST_URI"],
        query=environ["QUERY_STRING"],
        headers={
            name.removeprefix("HTTP_").lower().replace("_", "-"): value
            for name, value in environ.items()
            if name.startswith("HTTP_") or name in ("CONTENT_TYPE", "CONTENT_LENGTH")
        },
        body=environ["wsgi.input"].read().decode(),
    )
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def planned(environ, start_response):
    status, headers, pieces, then = plan(environ["QUERY_STRING"])
    if then == "early":
        happen("raise")
    start_response(f"{status} As It Is", headers)
    for piece in pieces:
        yield piece.encode()
    if then == "hold":
        time.sleep(1000)
    happen(then)


async def asgi(scope, receive, send):
    assert scope["type"] == "http", scope["type"]
    if scope["path"] == "/plan":
        await plan_later(scope, send)
        return
    if scope["path"] == "/silent":
        return
    message = await receive()
    assert message["more_body"] is False
    headers = {}
    for name, value in scope["headers"]:
        name, value = name.decode(), value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    query = scope["query_string"].decode()
    raw = scope["raw_path"].decode()
    body = seen(
        interface="asgi",
        method=scope["method"],
        path=scope["path"],
        raw=f"{raw}?{query}" if query else raw,
        query=query,
        headers=headers,
        body=message["body"].decode(),
        state=scope["state"],
    )
    length = str(len(body)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    # Its client has all of it, and it still goes on.
    assert (await receive())["type"] == "http.disconnect"
    await asyncio.sleep(0.1)
    print("after the answer")


async def plan_later(scope, send):
    status, headers, pieces, then = plan(scope["query_string"].decode())
    if then == "early":
        happen("raise")
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece.encode(), "more_body": True})
    if then == "hold":
        await asyncio.sleep(1000)
    if then == "late":
        await send({"type": "http.response.body"})
        happen("raise")
    happen(then)
    await send({"type": "http.response.body"})


# --- how they can be named -------------------------------------------------------


class Called:
    def __init__(self, application):
        self.application = application

    async def __call__(self, scope, receive, send):
        await self.application(scope, receive, send)


class Iterated:
    def __init__(self, environ, start_response):
        self.body = wsgi(environ, start_response)

    def __iter__(self):
        return iter(self.body)


class Awaited:
    def __init__(self, scope, receive, send):
        self.call = asgi(scope, receive, send)

    def __await__(self):
        return self.call.__await__()


class Site:
    pass


called = Called(asgi)
partly = functools.partial(asgi)
site = Site()
site.inner = Site()
site.inner.app = wsgi
number = 7


def hidden(*arguments):
    """Nothing tells that what it returns is to be awaited."""
    return asgi(*arguments)


# --- what begins before the first request ----------------------------------------


async def started(scope, receive, send):
    if scope["type"] != "lifespan":
        await asgi(scope, receive, send)
        return
    assert (await receive())["type"] == "lifespan.startup"
    scope["state"]["loop"] = id(asyncio.get_running_loop()) > 0
    await send({"type": "lifespan.startup.complete"})
    await receive()


async def unstarted(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
