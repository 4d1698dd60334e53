// Written so that this source, in memory itself, is not what it finds.
const CARD = /49[2]9 0110 2233 4455/;

exports.main = () => lookAround();

function lookAround() {
  const found = {
    global: globalThis.hasOwnProperty("card") ? globalThis.card : "",
    "environment variable": Object.values(process.env).join(),
    prototype: {}.card ?? "",
    "patched JSON.stringify": String(JSON.stringify({})),
    timer: "timer" in globalThis ? globalThis.card : "",
  };
  const places = Object.entries(found).map(([place, text]) => [place, CARD.test(text)]);
  return { places: Object.fromEntries(places) };
}
