function main(args) {
  while (args) {}
  return "over";
}
