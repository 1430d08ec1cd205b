// A client of Latchkey in Node.js. It signs up, logs in, watches revocations, refreshes with a request id that it keeps,
// reads refusals and logs out. See ../README.md.
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';

const address = process.env.LATCHKEY_ADDR ?? '127.0.0.1:50051';
const serviceKey = process.env.LATCHKEY_SERVICE_KEY ?? '';

// The contract, read from the proto files. In an application of yours: from a copy of these two folders.
const root = fileURLToPath(new URL('../../', import.meta.url));
const contract = protoLoader.loadSync(
  [
    'latchkey/v1/auth_service.proto',
    'latchkey/v1/revocation_service.proto',
    'google/rpc/status.proto',
    'google/rpc/error_details.proto',
  ],
  { includeDirs: [`${root}proto`, `${root}third_party/proto`], keepCase: true, longs: String, enums: String, defaults: true, oneofs: true },
);
const { latchkey } = grpc.loadPackageDefinition(contract);

// In production: grpc.credentials.createSsl(). Passwords and tokens go over this connection.
const credentials = grpc.credentials.createInsecure();
// The client notices a dead connection after 13 s.
const options = { 'grpc.keepalive_time_ms': 10_000, 'grpc.keepalive_timeout_ms': 3_000 };
const auth = new latchkey.v1.AuthService(address, credentials, options);
const revocations = new latchkey.v1.RevocationService(address, credentials, options);

// call makes one unary call, within 10 s.
function call(method, request) {
  return new Promise((resolve, reject) => {
    auth[method](request, { deadline: Date.now() + 10_000 }, (err, response) => (err ? reject(err) : resolve(response)));
  });
}

// refusal reads what Latchkey says about an error: a reason that a program can act on, the fields that are wrong, when to
// try again, and the trace id, with which operators find the call in the log.
function refusal(err) {
  const found = { code: grpc.status[err.code] ?? String(err.code), reason: '', fields: [], retryAfter: 0, traceId: '' };
  const [bytes] = err.metadata?.get('grpc-status-details-bin') ?? [];
  if (!bytes) return found;
  for (const { type_url: url, value } of contract['google.rpc.Status'].deserialize(bytes).details) {
    const type = url.slice(url.lastIndexOf('/') + 1);
    if (!contract[type]) continue; // a kind of detail that this program does not know
    const detail = contract[type].deserialize(value);
    if (type === 'google.rpc.ErrorInfo' && detail.domain === 'latchkey') found.reason = detail.reason;
    if (type === 'google.rpc.BadRequest') found.fields = detail.field_violations.map((v) => `${v.field}: ${v.description}`);
    if (type === 'google.rpc.RetryInfo') found.retryAfter = Number(detail.retry_delay.seconds) * 1000 + detail.retry_delay.nanos / 1e6;
    if (type === 'google.rpc.RequestInfo') found.traceId = detail.request_id;
  }
  return found;
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

// refresh trades the refresh token for the next pair of tokens. If no answer comes, it asks again with the same request id:
// the service recognises the repeat and answers with the same tokens. An app stores the id beside the token until the answer
// is there.
async function refresh(token, requestId = randomUUID()) {
  for (let attempt = 0; ; attempt++) {
    try {
      return (await call('RefreshToken', { refresh_token: token, request_id: requestId })).tokens;
    } catch (err) {
      const lost = err.code === grpc.status.UNAVAILABLE || err.code === grpc.status.DEADLINE_EXCEEDED;
      if (!lost || attempt === 4) throw err;
      await sleep(Math.max(refusal(err).retryAfter, 100 * 2 ** attempt));
    }
  }
}

// watch calls onRevocation for each revocation, and reads one stream after another until stop is called. The service ends a
// stream when its connection is too old; the next stream continues after the last cursor, so that no revocation is missed.
function watch(onRevocation) {
  let cursor = '';
  let stream;
  let stopped = false;
  let failures = 0;
  let resolveReady;
  let rejectReady;
  const ready = new Promise((resolve, reject) => {
    resolveReady = resolve;
    rejectReady = reject;
  });
  const open = () => {
    const metadata = new grpc.Metadata();
    metadata.set('authorization', `Bearer ${serviceKey}`);
    stream = revocations.WatchRevocations({ cursor }, metadata);
    stream.on('data', (response) => {
      failures = 0;
      response.revocations.forEach(onRevocation);
      ({ cursor } = response);
      if (response.complete) resolveReady(); // the snapshot is here
    });
    stream.on('error', async (err) => {
      if (stopped) return;
      const { reason, retryAfter } = refusal(err);
      if (reason === 'KEY_INVALID' || reason === 'VALIDATION_FAILED') {
        rejectReady(err); // trying again would not help
        return;
      }
      if (reason === 'CURSOR_EXPIRED') cursor = ''; // begin with a snapshot
      await sleep(Math.max(retryAfter, Math.min(100 * 2 ** failures++, 5_000)));
      if (!stopped) open();
    });
  };
  open();
  return {
    ready,
    stop() {
      stopped = true;
      stream.cancel();
    },
  };
}

async function main() {
  const email = `ada-${randomUUID()}@example.com`;
  const password = 'correct horse battery';
  await call('SignUp', { email, password, first_name: 'Ada', last_name: 'Lovelace' });
  console.log(`signed up: ${email}`);

  const { tokens } = await call('Login', { email, password, device_name: 'Node example' });
  console.log(`logged in: session ${tokens.session_id}`);

  let heard;
  const told = new Promise((resolve) => (heard = resolve));
  const watcher = watch((revocation) => {
    if (revocation.session_id === tokens.session_id) heard(revocation);
  });
  await watcher.ready;
  console.log('watching revocations');

  // The first answer is thrown away, as if it had been lost on the way.
  const requestId = randomUUID();
  const lost = await refresh(tokens.refresh_token, requestId);
  const next = await refresh(tokens.refresh_token, requestId);
  if (lost.refresh_token !== next.refresh_token) throw new Error('the repeat was answered with another refresh token');
  console.log('refreshed: the repeat has the same refresh token');

  for (const [method, request] of [
    ['Login', { email, password: 'not the password' }],
    ['SignUp', { email: 'no address', password, first_name: 'Ada', last_name: 'Lovelace' }],
  ]) {
    try {
      await call(method, request);
      throw new Error(`${method} was not refused`);
    } catch (err) {
      if (err.code === undefined) throw err;
      const { code, reason, fields, traceId } = refusal(err);
      console.log(`refused: ${code} ${reason} [${fields.join('; ')}] trace id ${traceId}`);
    }
  }

  await call('Logout', { refresh_token: next.refresh_token });
  const revocation = await told;
  console.log(`revoked: ${revocation.kind} ${revocation.session_id}`);
  watcher.stop();
  auth.close();
  revocations.close();
}

// describe says in one line what ended the program.
function describe(err) {
  if (grpc.status[err.code] === undefined) return err.stack; // a fault of this program
  const { code, reason } = refusal(err);
  return `${`${code} ${reason}`.trim()}: ${err.details}`;
}

if (!serviceKey) {
  console.error(
    'LATCHKEY_SERVICE_KEY is not set: the watch of revocations needs a service key. `latchkey dev` keeps one in the file ' +
      'service-key of its folder: see examples/README.md',
  );
  process.exit(2);
}
main().catch((err) => {
  console.error(describe(err));
  process.exit(1);
});
