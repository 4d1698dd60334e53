import asyncio
import os
import time

count = 0


class NoGood(ValueError):
    pass


def steps(event):
    global count
    count += 1
    asked = event["op"]
    if asked == "items":
        for item in event["items"]:
            yield bytes(item["bytes"]) if isinstance(item, dict) and "bytes" in item else item
    if asked == "count":
        yield str(count)
        print("counted")
        count += 1
        yield str(count)
    if asked == "large":
        for _ in range(event["pieces"]):
            yield b"x" * event["bytes"]
    if asked == "raise":
        yield "first"
        raise NoGood("no good")
    if asked == "odd":
        try:
            yield event["first"]
            yield {1}
        finally:
            print("closed")
    if asked == "exit":
        yield "first"
        os._exit(3)
    if asked == "write":
        if event["first"] is not None:
            yield event["first"]
        os.write(4, bytes(event["frames"]))
        yield "last"


def handler(event, context):
    if event["op"] == "hold":
        return hold(event["seconds"])
    if event["op"] == "plain":
        return {"count": count + 1}
    if event["op"] == "lines":
        return open(__file__, "rb")
    if event["op"] == "mapped":
        return map(str, range(3))
    return steps(event)


def hold(seconds):
    yield "first"
    time.sleep(seconds)
    yield "last"


async def later(event, context):
    if event["op"] == "hold":
        yield "first"
        await asyncio.sleep(event["seconds"])
        yield "last"
    for item in steps(event):
        yield item


async def returns(event, context):
    return later(event, context)
