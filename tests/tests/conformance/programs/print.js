module.exports.main = (args) => {
  console.log("out " + args);
  console.error("err " + args);
  return args.length;
};
