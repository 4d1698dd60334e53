"""Memory that a function finds in its template: so many pages to write to, so many mappings."""

import mmap
import os

PAGE = mmap.PAGESIZE

# Written, so that they are there.
pages = bytearray(b"\1") * (int(os.environ.get("BALLAST_PAGES", "0")) * PAGE)

# Neighbours with the same rights would be one mapping.
RIGHTS = (mmap.PROT_READ | mmap.PROT_WRITE, mmap.PROT_READ)
mappings = [
    mmap.mmap(-1, PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=RIGHTS[number % 2])
    for number in range(int(os.environ.get("BALLAST_MAPPINGS", "0")))
]
for mapping in mappings[::2]:
    mapping[0] = 1


def write(count):
    """Writes to that many pages."""
    pages[: count * PAGE : PAGE] = bytes(count)
