throw new RangeError("not to be loaded");

function main(args) {
  return args;
}
