import builtins, json, os, re, threading

# Written so that this source, in memory itself, is not what it finds.
CARD = re.compile(r"49[2]9 0110 2233 4455")

# Bytes searched at a time.
PIECE = 256 * 1024


def main(args):
    return look_around()


def look_around():
    found = {
        "global": getattr(builtins, "card", ""),
        "file": "".join(entry.name + read(entry) for entry in os.scandir("/tmp")),
        "environment variable": "".join(os.environ.values()),
        "thread": "".join(thread.name for thread in threading.enumerate()),
        "patched json.dumps": json.dumps({}),
    }
    report = {"places": {place: bool(CARD.search(text)) for place, text in found.items()}}
    report["threads"] = len(os.listdir("/proc/self/task"))
    report["copies"], report["searched"] = search_memory()
    return report


def read(entry):
    return open(entry.path, errors="replace").read() if entry.is_file() else ""


def search_memory():
    """How often the card's number stands in this process's memory, of how many bytes."""
    needle = re.compile(CARD.pattern.encode())
    copies = searched = 0
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for mapping in maps.readlines():
            addresses, rights = mapping.split()[:2]
            start, end = (int(address, 16) for address in addresses.split("-"))
            while rights.startswith("r") and start < end:
                try:
                    memory.seek(start)
                    # And what a number that begins in this piece has in the next.
                    content = memory.read(min(PIECE + len("929 0110 2233 4455"), end - start))
                except (OSError, ValueError, OverflowError):
                    break  # the kernel's own pages
                copies += len(needle.findall(content))
                searched += len(content)
                start += PIECE
    return copies, searched
