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
      for (let piece = 0; piece < event.pieces; piece++) yield new Uint8Array(event.bytes).fill(120);
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
  }
}

exports.handler = (event) => (event.op === 'plain' ? { count: count + 1 } : steps(event));

// Whatever else gives one after the other.
exports.others = async (event) => {
  switch (event.op) {
    case 'generator': return (function* () { yield 'a'; yield 'b'; })();
    case 'web': {
      const left = ['a', 'b'];
      const read = async () => (left.length ? { done: false, value: left.shift() } : { done: true });
      return { getReader: () => ({ read, cancel: async () => {} }) };
    }
    case 'never': return (async function* () { yield 'a'; await new Promise(() => {}); })();
    default: return ['a', 'b'];
  }
};
