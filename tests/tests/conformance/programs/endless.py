def main(args):
    while args:
        pass
    return "over"
