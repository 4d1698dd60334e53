exports.main = () => {
  throw new RangeError("half of \ud83d a pair");
};
