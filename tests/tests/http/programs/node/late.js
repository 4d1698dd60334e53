// Fails only when nothing waits for the import any more but a timer.
setTimeout(() => { throw new Error('too late'); }, 10);
exports.handler = new Promise(() => {});
