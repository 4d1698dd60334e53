# Unicode in the source: ünïcødé 😀
import os
import sys
import time


def main(args):
    asked = args.get("op")
    if asked == "raise":
        raise ValueError("no good")
    if asked == "text":
        return "a text"
    if asked == "print":
        print("ünïcødé 😀")
        print("ünïcødé 😀", file=sys.stderr)
    if asked == "sleep":
        time.sleep(100)
    if asked == "env":
        return {"found": [os.environ.get(name) for name in args["names"]]}
    return {"args": args}


def another(args):
    return {"another": True}
