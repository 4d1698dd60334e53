import { readFileSync } from 'node:fs';

// Once, before the first request: every request starts from here.
const prices = JSON.parse(readFileSync(new URL('prices.json', import.meta.url)));

let requests = 0;

export const handler = async (event, context) => {
  requests += 1;
  let items = 0;
  let total = 0;
  for (const { name, price = prices[name], count = 1 } of event.items ?? []) {
    items += count;
    total += count * price;
  }
  console.log(`${context.awsRequestId}: ${items} items`);
  return { items, total, requests };
};
