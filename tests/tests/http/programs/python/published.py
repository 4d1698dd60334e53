"""What is asked of two clients of Lambda's runtime API."""

import asyncio
import datetime
import decimal
import math
import os
import sys

from pkg.mod import PACKAGED


class NoGood(ValueError):
    class Inner(Exception):
        pass


def fields(it):
    """Everything that a handler can see of an object, with its type."""
    found = {}
    for name in dir(it):
        if not name.startswith("_"):
            value = getattr(it, name)
            found[name] = "callable" if callable(value) else [type(value).__name__, plain(value)]
    return found


def plain(value):
    is_plain = value is None or isinstance(value, (str, int, float, list, dict))
    return value if is_plain else fields(value)


def context(event, context):
    remaining = context.get_remaining_time_in_millis()
    return {"fields": fields(context), "remaining": [type(remaining).__name__, remaining > 0]}


def deep(depth):
    return deep(depth - 1) if depth else {}["missing"]


def chained():
    try:
        deep(1)
    except KeyError as error:
        raise NoGood("no good") from error


def while_handling():
    try:
        deep(1)
    except KeyError:
        raise NoGood.Inner


def endless():
    return endless()


def compiled():
    exec(compile("def f():\n    raise ValueError('no file')\nf()", "<text>", "exec"))


def raised(kind, *arguments):
    raise kind(*arguments)


FAILURES = {
    "plain": lambda: raised(NoGood, "no good"),
    "nested": lambda: deep(3),
    "chained": chained,
    "while handling": while_handling,
    "inner class": lambda: raised(NoGood.Inner, "inner"),
    "without words": lambda: raised(NoGood),
    "several words": lambda: raised(NoGood, "a", 1),
    "lines": lambda: raised(NoGood, "a\n  b\n\nc"),
    "unicode": lambda: raised(NoGood, "ünïcødé 😀"),
    "expression": lambda: {"a": {}}["a"]["b"] + 1,
    "endless": endless,
    "no file": compiled,
    "exit": lambda: sys.exit("enough"),
}

RESULTS = {
    "none": None,
    "text": "ünïcødé 😀",
    "numbers": [0, -1, 2**70, 1.5, 1e300, 3.0, True],
    "tuple": (1, (2, 3)),
    "keys": {1: "a", None: "b", True: "c"},
    "nested": {"a": [{"b": [None]}]},
    "empty": [{}, [], "", 0],
    "half a pair": "\ud83d",
    "decimal": decimal.Decimal("1.10"),
    "decimals": {
        "list": [decimal.Decimal(7), (decimal.Decimal("-1E+3"), "text", 1.5)],
        "exact": decimal.Decimal("0.12345678901234567890123456789"),
        "zero": decimal.Decimal("-0.00"),
    },
    "no decimal": decimal.Decimal("Infinity"),
    "decimal as key": {decimal.Decimal(1): 1},
    "nan": math.nan,
    "infinity": [math.inf],
    "set": {1},
    "date": {"at": datetime.date(2024, 2, 29)},
    "bytes": b"bytes",
    "tuple as key": {(1, 2): 3},
    "packaged": PACKAGED,
}


async def later():
    await asyncio.sleep(0)
    return "later"


def handler(event, it):
    if not isinstance(event, dict) or "op" not in event:
        return event
    asked = event["op"]
    if asked == "context":
        return context(event, it)
    if asked == "fail":
        return FAILURES[event["how"]]()
    if asked == "give":
        return RESULTS[event["what"]]
    if asked == "trace":
        return os.environ.get("_X_AMZN_TRACE_ID")
    if asked == "w3c":
        return it.w3c()
    if asked == "later":
        return later()
    return event
