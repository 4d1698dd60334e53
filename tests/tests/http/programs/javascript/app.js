console.log('imported');

let count = 0;
let secret = null;
Math.random();

class NoGood extends Error {
  get name() { return 'NoGood'; }
}

exports.handler = async (event, context) => {
  count += 1;
  switch (event?.op) {
    case 'count': return { count };
    case 'draw': return [Math.random(), crypto.randomUUID()];
    case 'raise': throw new NoGood('no good');
    case 'sleep':
      console.log('asleep');
      return new Promise((done) => setTimeout(done, event.seconds * 1000, null));
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
