// Makes calls with more and more metadata, each on a connection that also has a stream. Prints how the call ends, and
// whether the stream has ended with it.
import grpc from '@grpc/grpc-js';

const [address, ...sizes] = process.argv.slice(2);
const raw = (bytes) => bytes;

async function trial(kib, values) {
  const client = new grpc.Client(address, grpc.credentials.createInsecure());
  let ended = '';
  let begun;
  const beginning = new Promise((resolve) => (begun = resolve));
  const watch = client.makeServerStreamRequest('/grpc.health.v1.Health/Watch', raw, raw, Buffer.alloc(0));
  watch.on('data', begun);
  watch.on('error', (err) => (ended = grpc.status[err.code]));
  await beginning;
  const call = (metadata) =>
    new Promise((resolve) => {
      client.makeUnaryRequest('/grpc.health.v1.Health/Check', raw, raw, Buffer.alloc(0), metadata, { deadline: Date.now() + 5000 }, (err) =>
        resolve(err ? grpc.status[err.code] : 'OK'),
      );
    });
  const metadata = new grpc.Metadata();
  for (let i = 0; i < values; i++) {
    metadata.set(`x-value-${i}`, 'v'.repeat((kib * 1024) / values));
  }
  const code = await call(metadata);
  const after = await call(new grpc.Metadata());
  console.log(JSON.stringify({ kib, values, code, after, stream: ended || 'goes on' }));
  watch.cancel();
  client.close();
}

for (const kib of sizes.map(Number)) {
  await trial(kib, 1);
  await trial(kib, 8);
}
