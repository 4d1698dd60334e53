def another(args):
    return args
