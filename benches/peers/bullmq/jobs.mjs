// BullMQ on Valkey, as a peer of the coordinator.
//
//     node jobs.mjs enqueue --port P --jobs J --n N
//     node jobs.mjs work    --port P --jobs J --n N [--lease-ms L] [--each]
//     node jobs.mjs trickle --port P --jobs J --pause-ms T
//     node jobs.mjs hold    --port P --lease-ms L
//
// Each prints one line of JSON at its end, `work` and `hold` the line `ready`
// when they listen, `hold` also `holding` when it has its job, which it keeps.
// Times are nanoseconds of the system's clock, which all processes share.
//
// Settings, each the best of what was tried on two cores:
// - N = 1: `Queue.add`, 64 calls at once; one worker with concurrency 64.
// - N = 64: `Queue.addBulk` of 64, which BullMQ sends as one transaction, four of
//   them at once (10 k/s with one at once, 16 k/s with 64 `add` at once, 17 k/s so);
//   one worker with concurrency 64 (32 is slower, 128 and 256 are no faster; a
//   second worker process only takes the server's core: 8.5 k/s become 6 k/s).
// - ioredis, BullMQ's default driver; node-redis processes a tenth less.
// - removeOnComplete: true. Keeping completed jobs costs the server 5 % more, and
//   nobody asks for them. Markers, events and locks stay as they come.
// - The stalled check runs as often as the lock lasts: 30 s each by default.

import { parseArgs } from 'node:util';
import { Queue, Worker } from 'bullmq';

const QUEUE = 'bench';
const NAME = 'noop';
// Transactions at once where jobs come in bulk.
const BULKS = 4;
// Calls at once with one job each, and jobs at once in the worker.
const AT_ONCE = 64;
// Without progress for so long, what is missing is lost.
const PATIENCE_MS = 20_000;

const nowNs = () => Math.round((performance.timeOrigin + performance.now()) * 1e6);
// Calls back when all of it is written: a pipe takes long lines in pieces.
const say = (values, written) => process.stdout.write(`${JSON.stringify(values)}\n`, written);

// A record of about 300 bytes, as every side has it.
const record = (number) => ({
  number,
  rows: 1000,
  bytes: 100000,
  checksum: '0123456789abcdef0123456789abcdef',
  schema: 'fedcba9876543210fedcba9876543210',
  location: 'grpc://127.0.0.1:8080',
  note: 'x'.repeat(120),
});

const connection = ({ port }) => ({ host: '127.0.0.1', port, maxRetriesPerRequest: null });

async function openQueue(options) {
  const queue = new Queue(QUEUE, {
    connection: connection(options),
    defaultJobOptions: { removeOnComplete: true },
  });
  await queue.waitUntilReady();
  return queue;
}

async function enqueue(options) {
  const queue = await openQueue(options);
  const from = nowNs();
  let next = 0;
  const caller = async () => {
    while (next < options.jobs) {
      const first = next;
      next = Math.min(next + options.n, options.jobs);
      if (options.n === 1) {
        await queue.add(NAME, record(first));
      } else {
        const data = Array.from({ length: next - first }, (_, index) => record(first + index));
        await queue.addBulk(data.map((data) => ({ name: NAME, data })));
      }
    }
  };
  await Promise.all(Array.from({ length: options.n === 1 ? AT_ONCE : BULKS }, caller));
  const to = nowNs();
  say({ jobs: options.jobs, seconds: (to - from) / 1e9 });
  await queue.close();
}

function openWorker(options, processor) {
  const lease = options['lease-ms'];
  const worker = new Worker(QUEUE, processor, {
    connection: connection(options),
    concurrency: AT_ONCE,
    ...(lease ? { lockDuration: lease, stalledInterval: lease } : {}),
  });
  worker.on('error', (error) => { console.error(error); process.exit(1); });
  worker.on('failed', (_, error) => { console.error(error); process.exit(1); });
  return worker;
}

async function work(options) {
  const seen = new Set();
  const started = [];
  let [duplicated, completed, from, progress] = [0, 0, 0, Date.now()];
  const end = (worker) => {
    const seconds = (nowNs() - from) / 1e9;
    const lost = options.jobs - seen.size;
    say({ jobs: options.jobs, seconds, lost, duplicated, started }, () => process.exit(0));
  };
  const worker = openWorker(options, async (job) => {
    const at = nowNs();
    if (from === 0) from = at;
    if (options.each) started.push([job.data.number, at]);
    if (seen.has(job.data.number)) duplicated++;
    seen.add(job.data.number);
  });
  // Emitted when the server has answered that the job is completed.
  worker.on('completed', () => {
    progress = Date.now();
    if (++completed === options.jobs) end(worker);
  });
  await worker.waitUntilReady();
  console.log('ready');
  setInterval(() => { if (Date.now() - progress > PATIENCE_MS) end(worker); }, 1_000);
}

async function hold(options) {
  const worker = openWorker({ ...options, n: 1 }, () => {
    console.log('holding');
    return new Promise(() => {});
  });
  await worker.waitUntilReady();
  console.log('ready');
}

async function trickle(options) {
  const queue = await openQueue(options);
  const sent = [];
  for (let number = 0; number < options.jobs; number++) {
    // Until the worker is idle again.
    await new Promise((resolve) => setTimeout(resolve, options['pause-ms']));
    sent.push([number, nowNs()]);
    await queue.add(NAME, record(number));
  }
  say({ sent });
  await queue.close();
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    port: { type: 'string' },
    jobs: { type: 'string', default: '1' },
    n: { type: 'string', default: '1' },
    'lease-ms': { type: 'string', default: '0' },
    'pause-ms': { type: 'string', default: '5' },
    each: { type: 'boolean', default: false },
  },
});
const numeric = ['port', 'jobs', 'n', 'lease-ms', 'pause-ms'];
const numbers = Object.fromEntries(numeric.map((key) => [key, Number(values[key])]));
await { enqueue, work, hold, trickle }[positionals[0]]({ ...values, ...numbers });
