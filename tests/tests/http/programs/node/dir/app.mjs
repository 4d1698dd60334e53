export const handler = async (event) => ['in a directory', event];
