def main(args):
    if args == "nothing":
        return
    return {
        "null": None,
        "text": "",
        "list": [],
        "object": {},
        "false": False,
        "zero": 0,
        "fraction": 0.5,
        "large": 9007199254740991,
        "nested": [[[{"a": [None, [True]]}]]],
    }[args]
