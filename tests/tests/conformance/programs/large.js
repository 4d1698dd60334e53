exports.main = (args) => "x".repeat(args);
