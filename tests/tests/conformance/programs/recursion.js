function main(args) {
  return args && main(args) + 1;
}
