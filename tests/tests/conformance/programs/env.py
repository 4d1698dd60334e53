import os


def main(args):
    return [os.environ.get(name) for name in args]
