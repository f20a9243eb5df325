// What is durable when, seen from outside: strace watches the system calls of the running broker, makes single ones fail, and
// kills the broker at single ones. At the end nobody holds a certificate that the log does not have.
import fs from 'node:fs';
import path from 'node:path';
import { check, has, same, skip } from '../driver/report.mjs';
import { Background } from '../driver/processes.mjs';
import { ALIAS, Broker, Person } from '../driver/ichor.mjs';
import { ask, compare, log } from '../driver/ledger.mjs';
import { Provider, tlsFor } from '../driver/peers.mjs';
import { vaultKilled } from './custody-kill.mjs';

export const needs = ['oidc'];

const policies = `
@id("read") permit (principal in Group::"${ALIAS}/sre", action == Action::"hold:os:reader", resource);
@id("audit") permit (principal in Group::"${ALIAS}/sre", action == Action::"audit:read", resource);
`;

export async function run(dir) {
  const world = await build(dir);
  const { alice, broker } = world;
  const refused = await cannotTrace(broker);
  if (refused) {
    skip('suite durability', `strace may not watch the broker here: ${refused}`);
    return;
  }
  await alice.loggedIn({ login: 'alice' });

  await check('grant and certificate are synced to the disk before the certificate is sent', async () => {
    const file = path.join(dir, 'order.trace');
    const trace = await attach(world, ['-yy', '-s', '0', '-o', file, '-e', 'trace=fdatasync,fsync,pwrite64,write,writev,sendto,sendmsg']);
    const attempt = await ask(world);
    await trace.end();
    same(attempt.result.code, 0, `exit codes (${attempt.result.text})`);
    ordered(events(fs.readFileSync(file, 'utf8')), broker);
  });

  // One call fails, the next ones do not: every place in which the two commits of an issuance make that call.
  for (const [error, call] of [['EIO', 'fsync,fdatasync'], ['EIO', 'pwrite64'], ['ENOSPC', 'pwrite64']]) {
    await check(`${error} of each ${call} in an issuance: nothing is answered, and the next request is`, async () => {
      let [failed, answered] = [0, 0];
      while (answered < 3) {
        const trace = await attach(world, ['-o', '/dev/null', '-e', `trace=${call}`, '-e', `inject=${call}:error=${error}:when=${failed + 1}`]);
        const attempt = await ask(world);
        await trace.end();
        if (attempt.result.code === 0) {
          // It has no such call any more, or the log's idle checkpoint took the error for it: then one of the next has it.
          answered += 1;
          continue;
        }
        answered = 0;
        has(attempt.result.text, /database/, `the answer to ${error} at ${call} ${failed + 1}`);
        same((await ask(world)).result.code, 0, 'exit codes of the next request');
        failed += 1;
        if (failed > 100) throw new Error('an issuance has a few calls');
      }
      if (failed < 2) throw new Error(`${failed} calls failed; a grant and a certificate have one each at least`);
      console.log(`        ${failed} calls, each failed once`);
    });
  }

  const landed = [];
  for (const [calls, most] of [['fsync,fdatasync', 2], ['pwrite64', 24], ['sendto,writev,write', 6]]) {
    await check(`kill -9 at each ${calls} of an issuance`, async () => {
      for (let number = 1; number <= most; number += 1) {
        const trace = await attach(world, ['-o', '/dev/null', '-e', `trace=${calls}`, '-e', `inject=${calls}:signal=KILL:when=${number}`]);
        const attempt = await ask(world);
        const died = broker.process.child.signalCode === 'SIGKILL' || (await Promise.race([broker.process.exit, wait(200)])) === 'SIGKILL';
        await trace.end();
        if (!died) break;
        await broker.start({ log: path.join(dir, 'broker.log') });
        landed.push(attempt);
      }
    });
  }
  await vaultKilled(world);
  await check('every certificate that a client holds is in the log, after its grant, and the log is whole', async () => {
    has((await broker.admin(['audit', 'verify'])).stdout, /^no damage: /);
    const counts = compare(world.attempts, await log(world));
    const kills = compare(landed, await log(world));
    console.log(`        requests: ${JSON.stringify(counts)}; cut off by a kill: ${JSON.stringify(kills)}`);
    for (const step of ['no grant', 'grant alone', 'certificate unanswered']) {
      if (!kills[step]) throw new Error(`no kill left: ${step}`);
    }
  });
}

async function build(dir) {
  const broker = await Broker.plan(dir);
  const provider = await Provider.start(dir, [broker.client()]);
  const { ca } = await tlsFor(dir, 'node');
  const encoded = fs.readFileSync(ca).toString('base64');
  const facts = path.join(dir, 'talosconfig');
  fs.writeFileSync(facts, `context: prod\ncontexts:\n  prod:\n    endpoints: [127.0.0.9]\n    ca: ${encoded}\n`);
  await broker.init(provider, policies);
  await broker.admin(['cluster', 'add', 'prod', '--from', facts, '--label', 'env=prod', '--reason', 'interop']);
  await broker.admin(['ca', 'create', 'prod', '--reason', 'interop']);
  await broker.start({ log: path.join(dir, 'broker.log') });
  const world = { dir, broker, provider, attempts: [] };
  world.alice = new Person(path.join(dir, 'alice'), world);
  return world;
}

/** Why strace cannot attach to the broker; undefined when it can. */
async function cannotTrace(broker) {
  const trace = new Background('strace', 'strace', ['-f', '-p', String(broker.process.child.pid), '-o', '/dev/null', '-e', 'trace=none']);
  try {
    await trace.says(/attached/);
    return undefined;
  } catch (error) {
    return error.message.split('\n').slice(0, 3).join(' ');
  } finally {
    await trace.end();
  }
}

/** A strace of the running broker, all threads. */
async function attach({ broker }, options) {
  const trace = new Background('strace', 'strace', ['-f', '-p', String(broker.process.child.pid), ...options]);
  await trace.says(/attached/);
  return trace;
}

/** System calls of a trace, in the order in which they began: {name, file, begin, end, result}. */
function events(text) {
  const all = [];
  const unfinished = new Map(); // thread → call
  text.split('\n').forEach((line, at) => {
    const [, thread, rest] = line.match(/^(\d+)\s+(.*)$/) ?? [];
    if (!thread) return;
    const resumed = rest.match(/^<\.\.\. (\w+) resumed>.*= (-?\d+)/);
    if (resumed) {
      const call = unfinished.get(thread);
      if (call) Object.assign(call, { end: at, result: Number(resumed[2]) });
      return;
    }
    const call = rest.match(/^(\w+)\(\d+<(.*?)>(?=[,) ])/);
    if (!call) return;
    const result = rest.match(/= (-?\d+)[^=]*$/);
    const event = { name: call[1], file: call[2], begin: at, end: result ? at : Infinity, result: result ? Number(result[1]) : undefined };
    if (!result) unfinished.set(thread, event);
    all.push(event);
  });
  return all;
}

/** Throws unless two syncs of the write-ahead log ended before the answer began, and nothing in it was unsynced then. */
function ordered(all, broker) {
  const journal = all.filter((call) => call.file.endsWith('-wal'));
  const synced = journal.filter((call) => /^f(data)?sync$/.test(call.name) && call.result === 0);
  const written = journal.filter((call) => call.name === 'pwrite64');
  // Certificate and CA make the longest answer by far.
  const sent = all.filter((call) => call.file.startsWith('TCP') && call.file.includes(`127.0.0.1:${broker.port}->`) && call.result > 1000);
  const answer = sent.at(-1);
  if (!answer) throw new Error(`no answer in the trace\n${all.map((c) => `${c.name} ${c.file} ${c.result}`).join('\n')}`);
  const before = synced.filter((call) => call.end < answer.begin);
  console.log(`        ${written.length} writes and ${before.length} syncs of the log, then ${answer.result} bytes to the client`);
  if (before.length < 2) throw new Error(`${before.length} syncs before the answer; a grant and a certificate need one each`);
  for (const write of written.filter((call) => call.begin < answer.begin)) {
    if (!before.some((sync) => sync.begin > write.end)) throw new Error('something written to the log was not synced when the answer was sent');
  }
}

function wait(milliseconds) {
  return new Promise((resolve) => { setTimeout(resolve, milliseconds, 'alive'); });
}
