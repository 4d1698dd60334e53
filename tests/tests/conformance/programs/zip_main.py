from parts.helper import join


def main(args):
    return join(args)
