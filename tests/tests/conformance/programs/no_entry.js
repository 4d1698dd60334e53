function another(args) {
  return args;
}
