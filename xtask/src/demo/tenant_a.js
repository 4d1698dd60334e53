const { setInterval } = globalThis;

exports.main = (args) => {
  if (args === null) {
    return lookAround();                               // tenant B's code, see below
  }
  const { card } = args;
  globalThis.card = card;                              // a global
  process.env.CARD = card;                             // an environment variable
  Object.prototype.card = card;                        // a prototype
  JSON.stringify = () => JSON.stringify.card;          // a patched library
  JSON.stringify.card = `"${card}"`;
  globalThis.timer = setInterval(() => card, 1000);    // a timer
  return Object.assign(Object.create(null), { charged: 42, card: "..." + card.slice(-4) });
};
