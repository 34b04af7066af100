// A service that reads what Tidewatch tells it as OpenFeature flags: it refuses what the priority floor
// leaves out and a share of the rest, and says which mode runs.
//
//   npm install && TIDEWATCH_URL=http://127.0.0.1:9517 SERVICE=cart LISTEN=8080 node service.js
//   curl -i -H 'x-priority: low' http://127.0.0.1:8080/

import http from 'node:http';
import { OpenFeature } from '@openfeature/server-sdk';
import { OFREPProvider } from '@openfeature/ofrep-provider';

const base = process.env.TIDEWATCH_URL ?? 'http://127.0.0.1:9517';
const service = process.env.SERVICE ?? 'cart';
const priorities = ['low', 'normal', 'high', 'critical'];

await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl: base }));
OpenFeature.setContext({ targetingKey: service });
const flags = OpenFeature.getClient();

// What holds while Tidewatch says nothing: the SDK gives these defaults back when it cannot be asked.
const own = { mode: 'normal', floor: 'low', shed: 0, recommendations: true };
let told = { ...own };

// Once a second rather than at each request: a request must not wait for Tidewatch.
async function refresh() {
  const [mode, floor, shed, recommendations] = await Promise.all([
    flags.getStringDetails('tidewatch.mode', own.mode),
    flags.getStringValue('tidewatch.priority_floor', own.floor),
    flags.getNumberValue('tidewatch.shed', own.shed),
    flags.getBooleanValue('recommendations', own.recommendations),
  ]);
  told = { mode: mode.value, floor, shed, recommendations };
  // Told by Tidewatch, and not our own default: say that it runs.
  if (mode.flagMetadata?.sequence === undefined) return;
  await fetch(`${base}/api/v1/modes/${encodeURIComponent(service)}/ack`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ mode: told.mode, sequence: mode.flagMetadata.sequence, instance: 'one' }),
    signal: AbortSignal.timeout(2000),
  });
}

(async function follow() {
  await refresh().catch((error) => console.error(`tidewatch: ${error.message}`));
  setTimeout(follow, 1000);
})();

let seen = 0;
function isRefused(request) {
  const priority = priorities.indexOf(request.headers['x-priority'] ?? 'normal');
  if (priority < priorities.indexOf(told.floor)) return true;
  if (priority === priorities.length - 1) return false;
  // Spread evenly: of four with a share of 0.25, each fourth.
  const n = seen++;
  return Math.floor((n + 1) * told.shed) > Math.floor(n * told.shed);
}

const server = http.createServer((request, response) => {
  if (isRefused(request)) {
    response.writeHead(503, { 'retry-after': '5' }).end();
    return;
  }
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ mode: told.mode, recommendations: told.recommendations }));
});
server.listen(Number(process.env.LISTEN ?? 8080), '127.0.0.1', () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
