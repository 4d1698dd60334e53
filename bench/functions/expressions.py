import re

ENTRY = re.compile(r"(?P<host>\d+\.\d+\.\d+\.\d+) .* \"(?P<verb>[A-Z]+) (?P<path>\S+)\" (?P<status>\d{3})")
LINE = '10.0.0.7 - - [01/Jan/2025:00:00:00] "GET /index.html?page=7" 200 5120\n'


def main(args):
    text = LINE * args["size"]
    found = [match["path"] for match in ENTRY.finditer(text)]
    return len(re.sub(r"\d+", "#", text)) + len(found)
