def main(args):
    return ((( args
