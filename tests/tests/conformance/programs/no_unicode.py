def main(args):
    raise ValueError("half of \ud83d a pair")
