export default function (names) {
  return names.map((name) => process.env[name] ?? null);
}
