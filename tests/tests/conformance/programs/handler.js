export async function handler(event, context) {
  return [event, context.awsRequestId];
}
