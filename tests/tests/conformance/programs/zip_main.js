const { join } = require("./parts/helper");

exports.main = (args) => join(args);
