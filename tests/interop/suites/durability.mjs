// What is durable when, seen from outside: strace watches the system calls of the running broker, makes single ones fail, and
// kills the broker at single ones. At the end nobody holds a certificate that the log does not have.
import fs from 'node:fs';
import path from 'node:path';
import { check, has, same, skip } from '../driver/report.mjs';
import { Background, eventually } from '../driver/processes.mjs';
import { ALIAS, Broker, Person } from '../driver/ichor.mjs';
import { freePort } from '../driver/ports.mjs';
import { ask, compare, log } from '../driver/ledger.mjs';
import { Provider, tlsFor } from '../driver/peers.mjs';
import { vaultKilled } from './custody-kill.mjs';
import { fullDisks } from './durability-full.mjs';

export const needs = ['oidc'];

const policies = `
@id("read") permit (principal in Group::"${ALIAS}/sre", action == Action::"hold:os:reader", resource);
@id("audit") permit (principal in Group::"${ALIAS}/sre", action == Action::"audit:read", resource);
`;

/** How often each fault is tried; a long campaign is a matter of patience. */
const ROUNDS = Number(process.env.INTEROP_ROUNDS ?? 1);

export async function run(dir) {
  const world = await build(dir);
  const { alice, broker } = world;
  const refused = await cannotTrace(broker);
  if (refused) {
    skip('suite durability', `strace may not watch the broker here: ${refused}`);
    return;
  }
  await alice.loggedIn({ login: 'alice' });

  await check('grant and certificate are synced to the disk, and the tree with both to the anchor, before the certificate is sent', async () => {
    const file = path.join(dir, 'order.trace');
    const trace = await attach(world, ['-yy', '-s', '0', '-o', file, '-e', 'trace=fdatasync,fsync,rename,renameat,renameat2,pwrite64,write,writev,sendto,sendmsg']);
    const attempt = await ask(world);
    await trace.end();
    same(attempt.result.code, 0, `exit codes (${attempt.result.text})`);
    ordered(events(fs.readFileSync(file, 'utf8')), world);
  });

  const landed = [];
  for (let round = 1; round <= ROUNDS; round += 1) {
    const at = ROUNDS > 1 ? `, round ${round} of ${ROUNDS}` : '';
    await failing(world, at);
    await killed(world, landed, at);
  }
  await vaultKilled(world);
  await fullDisks(dir, build);
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

/**
 * One call fails, the next ones do not: every place in which an issuance makes that call. strace counts each thread's calls for
 * itself; where the thread that writes the database would have the error before the anchor, it is left alone.
 */
async function failing(world, round) {
  const renames = 'rename,renameat,renameat2';
  for (const [error, calls, whose, least] of [
    ['EIO', 'fsync,fdatasync', 'database', 2], ['EIO', 'pwrite64', 'database', 2], ['ENOSPC', 'pwrite64', 'database', 2],
    ['EIO', 'fsync,fdatasync', 'anchor', 2], ['EIO', renames, 'anchor', 1], ['ENOSPC', renames, 'anchor', 1],
  ]) {
    const answered = whose === 'anchor' ? 'it is answered within the grace, and the anchor catches up' : 'nothing is answered, and the next request is';
    await check(`${error} of each ${calls} of the ${whose} in an issuance: ${answered}${round}`, async () => {
      let failed = 0;
      let [number, missed] = [1, 0];
      while (missed < 5) {
        // while it is known to be out, nobody waits for the anchor, and a certificate makes none of its calls
        if (whose === 'anchor') await anchored(world);
        const file = path.join(world.dir, 'fault.trace');
        const trace = await attach(world, ['-yy', '-s', '0', '-o', file, '-e', `trace=${calls}`, '-e', `inject=${calls}:error=${error}:when=${number}`], { others: whose === 'anchor' });
        const attempt = await ask(world);
        await trace.end();
        const hit = fs.readFileSync(file, 'utf8').split('\n').find((line) => line.includes('(INJECTED)'));
        const mine = whose === 'anchor' ? hit?.includes(path.dirname(world.anchor)) : attempt.result.code !== 0;
        if (!mine) {
          // It has no such call any more, or the log's idle checkpoint took the error for it: then one of the next has it.
          same(attempt.result.code, 0, `exit codes (${attempt.result.text})`);
          missed += 1;
          continue;
        }
        if (whose === 'anchor') same(attempt.result.code, 0, `exit codes within the grace (${attempt.result.text})`);
        else has(attempt.result.text, /database/, `the answer to ${error} at ${calls} ${number}`);
        same((await ask(world)).result.code, 0, 'exit codes of the next request');
        missed = 0;
        failed += 1;
        number += 1;
        if (number > 100) throw new Error('an issuance has a few calls');
      }
      if (failed < least) throw new Error(`${failed} calls failed, and there are ${least} at the least`);
      console.log(`        ${failed} calls, each failed once`);
      has((await world.broker.admin(['audit', 'verify'])).stdout, /the anchor file .* agrees/);
    });
  }
}

async function killed(world, landed, round) {
  const { broker, dir } = world;
  for (const [calls, most, others] of [
    ['fsync,fdatasync', 2, false], ['fsync,fdatasync', 2, true], ['rename,renameat,renameat2', 1, true], ['pwrite64', 24, false],
    ['sendto,writev,write', 8, false],
  ]) {
    await check(`kill -9 at each ${calls} of an issuance${others ? ", the anchor's" : ''}${round}`, async () => {
      let [kills, number, missed] = [0, 1, 0];
      while (number <= most) {
        const trace = await attach(world, ['-o', '/dev/null', '-e', `trace=${calls}`, '-e', `inject=${calls}:signal=KILL:when=${number}`], { others });
        const attempt = await ask(world);
        const died = broker.process.child.signalCode === 'SIGKILL' || (await Promise.race([broker.process.exit, wait(200)])) === 'SIGKILL';
        await trace.end();
        if (!died) {
          // what is left over, or a thread that was not there when strace came
          missed += 1;
          if (kills > 0 || missed === 5) break;
          continue;
        }
        kills += 1;
        number += 1;
        await broker.start({ log: path.join(dir, 'broker.log') });
        landed.push(attempt);
      }
      if (kills < 1) throw new Error('it was never killed');
      console.log(`        ${kills} kills`);
    });
  }
}

/** Returns once the broker says that nothing is wrong with its anchor. */
async function anchored({ health }) {
  await eventually(async () => {
    const { checks } = await (await fetch(`http://${health}/readyz`)).json();
    const anchor = checks.find((one) => one.name === 'audit anchor');
    if (!anchor?.ok) throw new Error(`readiness says: ${JSON.stringify(anchor)}`);
  });
}

/** The broker with its anchor on what stands for another disk. */
async function build(dir, { grace = '10m' } = {}) {
  const broker = await Broker.plan(dir);
  const provider = await Provider.start(dir, [broker.client()]);
  const { ca } = await tlsFor(dir, 'node');
  const encoded = fs.readFileSync(ca).toString('base64');
  const facts = path.join(dir, 'talosconfig');
  fs.writeFileSync(facts, `context: prod\ncontexts:\n  prod:\n    endpoints: [127.0.0.9]\n    ca: ${encoded}\n`);
  const anchor = path.join(dir, 'another-disk', 'checkpoint');
  fs.mkdirSync(path.dirname(anchor));
  const health = `127.0.0.1:${await freePort()}`;
  await broker.init(provider, policies, { sections: `[audit]\nanchor_file = "${anchor}"\nanchor_grace = "${grace}"\n`, health });
  await broker.admin(['cluster', 'add', 'prod', '--from', facts, '--label', 'env=prod', '--reason', 'interop']);
  await broker.admin(['ca', 'create', 'prod', '--reason', 'interop']);
  await broker.start({ log: path.join(dir, 'broker.log') });
  const world = { dir, broker, provider, anchor, health, attempts: [] };
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

/** A strace of the running broker: all threads, or all but the one that writes the database. */
async function attach(world, options, { others = false } = {}) {
  const pid = world.broker.process.child.pid;
  if (others) await ask(world); // so that threads that write files are there, and idle
  const is_writer = (thread) => fs.readFileSync(`/proc/${pid}/task/${thread}/comm`, 'utf8').trim() === 'store-writer';
  const threads = fs.readdirSync(`/proc/${pid}/task`);
  if (!threads.some(is_writer)) throw new Error('no thread writes the database');
  const which = others ? threads.filter((thread) => !is_writer(thread)) : [pid];
  const trace = new Background('strace', 'strace', [...(others ? [] : ['-f']), ...which.flatMap((id) => ['-p', String(id)]), ...options]);
  await trace.says(new RegExp(`(attached[^]*){${which.length}}`));
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
    const call = rest.match(/^(rename\w*)\(.*"([^"]*)"/) ?? rest.match(/^(\w+)\(\d+<(.*?)>(?=[,) ])/);
    if (!call) return;
    const result = rest.match(/= (-?\d+)[^=]*$/);
    const event = { name: call[1], file: call[2], begin: at, end: result ? at : Infinity, result: result ? Number(result[1]) : undefined };
    if (!result) unfinished.set(thread, event);
    all.push(event);
  });
  return all;
}

/**
 * Throws unless two syncs of the write-ahead log ended before the answer began, with nothing in it unsynced then, and after the
 * second one the anchor's file was synced, put in its place, and its folder synced.
 */
function ordered(all, { broker, anchor }) {
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
  const folder = path.dirname(anchor);
  const done = (test, from, to) => all.find((call) => test(call) && call.result === 0 && call.begin > from && call.end < to);
  const isSync = (call) => /^f(data)?sync$/.test(call.name);
  const put = all.filter((call) => call.name.startsWith('rename') && call.file === anchor && call.result === 0 && call.end < answer.begin).at(-1);
  if (!put) throw new Error('no anchor was put in its place before the answer');
  if (!done((call) => isSync(call) && call.file.startsWith(`${folder}/`), before[1].end, put.begin)) {
    throw new Error('the anchor was not synced between the second sync of the log and its being put in its place');
  }
  if (!done((call) => isSync(call) && call.file === folder, put.end, answer.begin)) throw new Error("the anchor's folder was not synced before the answer");
}

function wait(milliseconds) {
  return new Promise((resolve) => { setTimeout(resolve, milliseconds, 'alive'); });
}
