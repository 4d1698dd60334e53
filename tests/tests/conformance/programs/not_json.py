def main(args):
    return {"inside": main}
