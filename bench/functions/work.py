import time


def handler(event, context):
    if event["op"] == "sleep":
        time.sleep(event["seconds"])
        return None
    # So much work, however long it takes: what others take of the processor shows.
    total = 0
    for number in range(event["steps"]):
        total += number
    return total
