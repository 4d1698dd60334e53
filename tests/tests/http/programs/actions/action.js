// Unicode in the source: ünïcødé 😀
function main(args) {
  switch (args.op) {
    case 'raise': throw new RangeError('no good');
    case 'text': return 'a text';
    case 'print':
      console.log('ünïcødé 😀');
      console.error('ünïcødé 😀');
      break;
    case 'sleep': return new Promise((done) => setTimeout(done, 100_000));
    case 'env': return { found: args.names.map((name) => process.env[name]) };
  }
  return { args };
}

const another = () => ({ another: true });
