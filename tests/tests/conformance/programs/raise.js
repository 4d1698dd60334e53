function inner(args) {
  throw new RangeError("refused: " + args);
}

exports.main = async (args) => inner(args);
