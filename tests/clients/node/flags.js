// Reads flags with OpenFeature's own SDKs: for each line on standard input one line with all of them.
// Usage: node flags.js server|web BASE_URL SERVICE
const readline = require('node:readline');

const [kind, baseUrl, service] = process.argv.slice(2);
const logged = [];
const log = (...parts) => logged.push(parts.map(String).join(' '));
const logger = { error: log, warn: log, info() {}, debug() {} };
let notModified = 0;

async function server() {
  const { OpenFeature } = require('@openfeature/server-sdk');
  const { OFREPProvider } = require('@openfeature/ofrep-provider');
  OpenFeature.setLogger(logger);
  OpenFeature.setContext({ targetingKey: 'user-7', 'service.name': service });
  await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl }));
  return OpenFeature.getClient();
}

async function web() {
  const { OpenFeature } = require('@openfeature/web-sdk');
  const { OFREPWebProvider } = require('@openfeature/ofrep-web-provider');
  const fetchImplementation = async (request) => {
    const answer = await fetch(request);
    if (answer.status === 304) notModified += 1;
    return answer;
  };
  OpenFeature.setLogger(logger);
  await OpenFeature.setContext({ targetingKey: 'user-7', service });
  const options = { baseUrl, fetchImplementation, pollInterval: 100, cacheMode: 'disabled' };
  await OpenFeature.setProviderAndWait(new OFREPWebProvider(options));
  return OpenFeature.getClient();
}

const flags = [
  ['Boolean', 'recommendations', true],
  ['Number', 'max_steps', 7],
  ['Number', 'ratio', 0.75],
  ['String', 'model', 'large'],
  ['Object', 'limits', { rate: 100 }],
  ['Boolean', 'beta', true],
  ['Boolean', 'nonsense', true],
  ['String', 'tidewatch.mode', 'own'],
  ['Number', 'tidewatch.level', -1],
  ['String', 'tidewatch.priority_floor', 'own'],
  ['String', 'tidewatch.quality', 'own'],
  ['Number', 'tidewatch.shed', -1],
];

(async () => {
  const client = await { server, web }[kind]();
  for await (const _ of readline.createInterface({ input: process.stdin })) {
    const seen = {};
    for (const [type, key, fallback] of flags) {
      const details = await client[`get${type}Details`](key, fallback);
      const { value, reason, variant, errorCode, flagMetadata } = details;
      seen[key] = { value, reason, variant, errorCode, metadata: flagMetadata };
    }
    console.log(JSON.stringify({ seen, logged, notModified }));
  }
  process.exit(0);
})();
