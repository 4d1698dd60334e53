function main() {
  return { inside: 1n };
}
