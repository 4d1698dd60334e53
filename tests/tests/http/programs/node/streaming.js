const { Readable } = require('node:stream');
const fs = require('node:fs');

let count = 0;

class NoGood extends Error {
  get name() { return 'NoGood'; }
}

async function* steps(event) {
  count += 1;
  switch (event.op) {
    case 'hold':
      yield 'first';
      await new Promise((done) => setTimeout(done, event.seconds * 1000));
      yield 'last';
      break;
    case 'items':
      for (const item of event.items) {
        if (typeof item?.bytes === 'string') throw new TypeError('no bytes');
        yield item?.bytes ? Uint8Array.from(item.bytes) : item;
      }
      break;
    case 'count':
      yield String(count);
      console.log('counted');
      count += 1;
      yield String(count);
      break;
    case 'large':
      for (let piece = 0; piece < event.pieces; piece++) yield Buffer.alloc(event.bytes, 'x');
      break;
    case 'raise':
      yield 'first';
      throw new NoGood('no good');
    case 'odd':
      try {
        yield event.first;
        yield 1n;
      } finally {
        console.log('closed');
      }
      break;
    case 'exit':
      yield 'first';
      process.exit(3);
  }
}

exports.handler = (event) => (event.op === 'plain' ? { count: count + 1 } : steps(event));

// Whatever else can be iterated over.
exports.others = async (event) => {
  switch (event.op) {
    case 'generator': return (function* () { yield 'a'; yield 'b'; })();
    case 'web': return new ReadableStream({
      start(controller) {
        controller.enqueue('a');
        controller.enqueue('b');
        controller.close();
      },
    });
    case 'readable': return Readable.from(['a', 'b']);
    case 'file': return fs.createReadStream(__filename);
    case 'late': setTimeout(() => { throw new NoGood('no good'); }, 10); return steps({ op: 'hold', seconds: 1000 });
    case 'never': return (async function* () { yield 'a'; await new Promise(() => {}); })();
    default: return ['a', 'b'];
  }
};

exports.streamed = awslambda.streamifyResponse(async (event, responseStream, context) => {
  if (event.op === 'http') {
    responseStream = awslambda.HttpResponseStream.from(responseStream, {
      statusCode: 201,
      headers: { 'content-type': 'text/odd', 'x-own': 'yes' },
      cookies: ['a=1', 'b=2'],
    });
  }
  if (event.op === 'type') responseStream.setContentType('text/event-stream');
  responseStream.write('first');
  if (event.op === 'hold') await new Promise((done) => setTimeout(done, event.seconds * 1000));
  if (event.op === 'raise') throw new NoGood('no good');
  responseStream.write(Buffer.from(context.awsRequestId ? ' and last' : ''));
  responseStream.end();
});
