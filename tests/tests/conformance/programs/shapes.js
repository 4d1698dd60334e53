export function main(args) {
  if (args === "nothing") {
    return;
  }
  return {
    null: null,
    text: "",
    list: [],
    object: {},
    false: false,
    zero: 0,
    fraction: 0.5,
    large: 9007199254740991,
    nested: [[[{ a: [null, [true]] }]]],
  }[args];
}
