const { randomBytes, randomInt, randomUUID } = require('node:crypto');

console.log('imported');

// Numbers that are drawn before the snapshot are the same for all who come after it.
const early = [Math.random(), randomUUID(), randomInt(1e9), crypto.randomUUID()];
let count = 0;
let secret = null;

class NoGood extends Error {
  get name() { return 'NoGood'; }
}

exports.handler = async (event, context) => {
  count += 1;
  switch (event?.op) {
    case 'count': return { count };
    case 'draw': {
      // Each reads ahead for the other: which comes first is left to chance of the kernel's.
      const names = randomBytes(1)[0] < 128 ? [randomUUID(), crypto.randomUUID()] : [crypto.randomUUID(), randomUUID()];
      return [Math.random(), ...names, randomInt(1e9)];
    }
    case 'early': return early;
    case 'raise': throw new NoGood('no good');
    case 'sleep':
      console.log('asleep');
      return new Promise((done) => setTimeout(done, event.seconds * 1000, null));
    case 'exit': process.exit(3);
    case 'print':
      console.log(event.text);
      console.error(event.text);
      return null;
    case 'env': return process.env[event.name] ?? null;
    case 'cwd': return process.cwd();
    case 'swap': {
      const before = secret;
      secret = event.secret;
      return before;
    }
    case 'large': return 'x'.repeat(event.bytes);
    case 'context': return { ...context, remaining: context.getRemainingTimeInMillis() };
    default: return event;
  }
};

exports.done = (event, context) => context.done(null, ['done', event]);
exports.fail = (event, context) => context.fail(new NoGood('no good'));
exports.main = (args) => args;
