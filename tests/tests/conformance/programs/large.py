def main(args):
    return "x" * args
