def inner(args):
    raise ValueError("refused: " + args)


def main(args):
    return inner(args)
