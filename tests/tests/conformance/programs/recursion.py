def main(args):
    return args and main(args) + 1
