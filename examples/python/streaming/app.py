"""A handler that answers line by line: each is there before the next is made."""

requests = 0


def handler(event, context):
    global requests
    requests += 1
    total = 0
    for item in event["items"]:
        total += item["price"] * item.get("count", 1)
        yield {"total": total, "requests": requests}
