// It has no files: what it could leave is in its own memory.
exports.main = ({ op, places }) => {
  if (op === 'leave') {
    globalThis.kept = 'hunter2';
    return { refused: places, status: null };
  }
  if (op === 'look') return { found: [], kept: globalThis.kept ?? null };
  const held = [];
  for (;;) held.push(new Uint8Array(1 << 20).fill(1));
};
