import sys


def main(args):
    print("out " + args)
    print("err " + args, file=sys.stderr)
    return len(args)
