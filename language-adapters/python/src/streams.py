"""Answers in pieces, a part of the adapter: what a function yields, or an application
sends. The supervisor asks for one after the other, and nothing goes on in between."""

import collections

_deque = collections.deque


def _is_stream(result):
    kind = type(result)
    return hasattr(kind, "__next__") or hasattr(kind, "__aiter__")


def _begin_stream(result):
    """A status and headers for what a function yields; the first item is there then."""
    global _stream
    is_later = hasattr(type(result), "__aiter__")
    items = _Handover(_give_all, result) if is_later else result
    pieces = _pieces_of(items)
    kind, first = next(pieces, (None, b""))
    _stream = _preceded(first, (piece for _, piece in pieces))
    return 200, [] if kind is None else [("content-type", kind)]


def _pieces_of(items):
    try:
        for item in items:
            yield _as_piece(item)
    finally:
        # Where an item was none the function hears that nobody asks for more.
        close = getattr(items, "close", None)
        if close is not None:
            close()


def _as_piece(item):
    """An item's bytes, and the type of media that is made of such."""
    if isinstance(item, (bytes, bytearray, memoryview)):
        return "application/octet-stream", bytes(item)
    if isinstance(item, str):
        return "text/plain; charset=utf-8", item.encode()
    return "application/x-ndjson", (_encode(item) + "\n").encode()


def _preceded(first, pieces):
    try:
        yield first
        yield from pieces
    finally:
        pieces.close()


def next_piece():
    """The next piece of the answer in hand: None after the last, or what went wrong."""
    try:
        for piece in _stream or ():
            if piece:
                return piece
        _end_stream()
        return None
    except BaseException as error:
        failure = _describe(error)
        _end_stream()
        return failure


def _end_stream():
    global _stream
    stream, _stream = _stream, None
    try:
        if stream is not None:
            stream.close()
    except BaseException:
        # It has failed already, or has said all.
        pass
    _flush()


class _Handover:
    """What a coroutine gives, one after the other: it goes on when more is asked for."""

    def __init__(self, run, *arguments):
        self._loop = _runner().get_loop()
        self._given = _deque()
        self._waiting = None
        self._untaken = None
        self._task = self._loop.create_task(run(self.give, *arguments))
        self._task.add_done_callback(self._wake)

    async def give(self, item):
        taken = self._loop.create_future()
        self._given.append((item, taken))
        self._wake()
        await taken

    def _wake(self, *_):
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def __iter__(self):
        return self

    def __next__(self):
        self._take()
        while not self._given:
            if self._task.done():
                self._task.result()
                raise StopIteration
            self._waiting = self._loop.create_future()
            self._loop.run_until_complete(self._waiting)
        item, self._untaken = self._given.popleft()
        return item

    def _take(self):
        taken, self._untaken = self._untaken, None
        if taken is not None and not taken.done():
            taken.set_result(None)

    def close(self):
        if self._task.done():
            return
        self._task.cancel()
        self._loop.run_until_complete(_ended(self._task))


async def _ended(task):
    try:
        await task
    except BaseException:
        pass


async def _give_all(give, items):
    try:
        async for item in items:
            await give(item)
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()


_OWN_CODE |= {
    function.__code__
    for function in (_begin_stream, _pieces_of, _preceded, next_piece, _Handover.__next__, _give_all)
}
