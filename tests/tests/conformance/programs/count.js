let calls = 0;

function main(args) {
  calls += 1;
  return [NUMBER, args, calls];
}
