// Leaves what it can, looks for what is left, and takes more memory than there is.
const fs = require('fs');
const { spawn } = require('child_process');

exports.main = ({ op, places }) => {
  if (op === 'leave') {
    globalThis.kept = 'hunter2';
    const refused = places.filter((place) => {
      try {
        fs.mkdirSync(`${place}/deep/er`, { recursive: true });
        fs.writeFileSync(`${place}/deep/er/file`, 'hunter2');
        fs.chmodSync(`${place}/deep`, 0);
        return false;
      } catch {
        return true;
      }
    });
    spawn('/bin/sleep', ['1000'], { detached: true, stdio: 'ignore' }).unref();
    return { refused, status: fs.readFileSync('/proc/self/status', 'utf8') };
  }
  if (op === 'look') {
    const found = places.flatMap((place) => fs.readdirSync(place));
    return { found, kept: globalThis.kept ?? null };
  }
  const held = [];
  for (;;) held.push(Buffer.alloc(1 << 20, 'x'));
};
