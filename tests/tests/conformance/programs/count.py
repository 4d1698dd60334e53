calls = 0


def main(args):
    global calls
    calls += 1
    return [NUMBER, args, calls]
