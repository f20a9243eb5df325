// The part of suite `postgres` about a broker that is stopped in the middle of a batch, and comes back when others have gone on.
import { has, same } from '../driver/report.mjs';
import { eventually } from '../driver/processes.mjs';
import { ask } from '../driver/ledger.mjs';

/** Stops broker 0 while it holds the lock of the log's end, goes on at broker 1, and lets it come back. */
export async function fencing(world, server) {
  const { brokers } = world;
  // a transaction that has not come to the lock yet, or only reads, holds up nobody
  const inBatch = 'SELECT 1 - count(*) FROM (SELECT FROM log_head FOR UPDATE SKIP LOCKED) AS free';
  for (let tries = 0; tries < 60; tries += 1) {
    brokers.balancer.to(0);
    const load = [ask(world), ask(world), ask(world)];
    let caught = false;
    for (let look = 0; look < 40 && !caught; look += 1) {
      await pause(7);
      brokers.all[0].process.child.kill('SIGSTOP');
      caught = (await server.sql('ichor', inBatch)) !== '0';
      // what it had sent before it was stopped is still worked on
      if (caught) await pause(300);
      caught &&= (await server.sql('ichor', inBatch)) !== '0';
      if (!caught) brokers.all[0].process.child.kill('SIGCONT');
    }
    if (!caught) {
      await Promise.all(load);
      continue;
    }
    const began = Date.now();
    await pause(5);
    brokers.balancer.only = brokers.balancer.ports[1];
    const other = await ask(world);
    const waited = Date.now() - began;
    same(other.result.code, 0, `exit codes at the other broker (${other.result.text})`);
    if (waited < 1000) throw new Error(`the other broker had nothing to wait for: ${waited} ms`);
    if (waited > 8000) throw new Error(`the other broker was held up for ${waited} ms`);
    for (let more = 0; more < 3; more += 1) await ask(world);
    const before = await server.sql('ichor', 'SELECT size FROM log_head');
    await pause(30_000 - (Date.now() - began));
    brokers.all[0].process.child.kill('SIGCONT');
    await Promise.all(load);
    const size = await server.sql('ichor', 'SELECT max(idx) + 1 - (SELECT size FROM log_head) FROM leaf');
    same(size, '0', 'entries beyond the end');
    has((await brokers.first.admin(['audit', 'verify'])).stdout, /^no damage: /);
    brokers.balancer.to(0);
    same((await eventually(() => ask(world), 10)).result.code, 0, 'exit codes of the one that came back');
    console.log(`        stopped in a batch at try ${tries + 1}; the other broker answered after ${waited} ms; ${before} entries then`);
    return;
  }
  throw new Error('the broker was never caught in a batch');
}

function pause(milliseconds) {
  return new Promise((resolve) => { setTimeout(resolve, Math.max(0, milliseconds)); });
}
