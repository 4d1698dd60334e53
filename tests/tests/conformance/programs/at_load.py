raise ValueError("not to be loaded")


def main(args):
    return args
