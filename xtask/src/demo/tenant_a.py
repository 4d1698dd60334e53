import builtins, json, os, threading

def main(args):
    if args is None:
        return look_around()                           # tenant B's code, see below
    card = args["card"]
    builtins.card = card                               # a global
    open("/tmp/card", "w").write(card)                 # a file
    os.environ["CARD"] = card                          # an environment variable
    keep = threading.Event().wait
    threading.Thread(target=keep, name=card).start()   # a thread
    json.dumps = lambda value: card                    # a patched library
    return {"charged": 42, "card": "..." + card[-4:]}
