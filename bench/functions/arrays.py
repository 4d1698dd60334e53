import numpy


def main(args):
    numbers = numpy.arange(args["size"], dtype=float)
    return float(numpy.sqrt(numbers).sum() + numpy.sort(numbers[::-1])[0])
