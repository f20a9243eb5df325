// The part of suite `durability` about disks that are full: a tmpfs of 1 MiB under the database, and one under the anchor.
import fs from 'node:fs';
import path from 'node:path';
import { check, has, same } from '../driver/report.mjs';
import { Disk } from '../driver/disk.mjs';
import { eventually } from '../driver/processes.mjs';
import { ask, compare, log } from '../driver/ledger.mjs';

/** More requests than a MiB has room for. */
const MOST = 200;

/** `start(dir, sections)` makes a broker, its provider and alice, who is logged in. */
export async function fullDisks(dir, build) {
  await databaseFull(path.join(dir, 'full'), build);
  await anchorFull(path.join(dir, 'anchor-full'), build);
}

async function databaseFull(dir, build) {
  fs.mkdirSync(dir);
  const world = await build(dir);
  const { broker, alice } = world;
  await broker.process.end();
  const disk = await Disk.mount(path.join(broker.dir, 'data'), 1024);
  const [ready, again] = [() => readiness(world), async () => same((await ask(world)).result.code, 0, 'exit codes')];
  try {
    await check('a disk of 1 MiB under the database: issued until it is full, then refused, and issued again as soon as there is room', async () => {
      await broker.start({ log: path.join(dir, 'broker.log') });
      await alice.loggedIn({ login: 'alice' });
      let refused;
      while (!refused) {
        const { result } = await ask(world);
        if (result.code !== 0) refused = result.text;
        if (world.attempts.length > MOST) throw new Error(`${MOST} requests, and ${disk.free()} bytes are free`);
      }
      const issued = world.attempts.length - 1;
      has(refused, 'database', 'the answer');
      if (issued < 3) throw new Error(`only ${issued} were issued before`);
      for (let more = 0; more < 5; more += 1) {
        const { result } = await ask(world);
        if (result.code !== 0) has(result.text, 'database', 'the answer');
      }
      await eventually(async () => same(await ready(), 503, 'readiness'));
      const free = disk.free();
      await disk.resize(8 * 1024);
      await eventually(again);
      await eventually(async () => same(await ready(), 200, 'readiness'));
      console.log(`        ${issued} issued, then refused with ${free} bytes free`);
    });
    await check('and killed on the full disk, it starts once there is room', async () => {
      const filled = disk.fill();
      for (let more = 0; more < 30; more += 1) await ask(world);
      const { result } = world.attempts.at(-1);
      if (result.code === 0) throw new Error('the disk is not full');
      broker.process.child.kill('SIGKILL');
      await broker.process.exit;
      filled.taken();
      await broker.start({ log: path.join(dir, 'broker.log') });
      await again();
    });
    await check('and what was answered is in the log, and the log is whole', async () => {
      has((await broker.admin(['audit', 'verify'])).stdout, /^no damage: /);
      console.log(`        requests: ${JSON.stringify(compare(world.attempts, await log(world)))}`);
    });
    await broker.process.end();
  } finally {
    await disk.unmount();
  }
}

async function anchorFull(dir, build) {
  fs.mkdirSync(dir);
  const world = await build(dir, { grace: '4s' });
  const { broker, alice } = world;
  await broker.process.end();
  const disk = await Disk.mount(path.dirname(world.anchor), 64);
  try {
    await check("the anchor's disk is full: issued within anchor_grace, then refused, and issued again as soon as there is room", async () => {
      await broker.start({ log: path.join(dir, 'broker.log') });
      await alice.loggedIn({ login: 'alice' });
      same((await ask(world)).result.code, 0, 'exit codes');
      const filled = disk.fill();
      const kept = fs.readFileSync(world.anchor, 'utf8');
      const within = await ask(world);
      same(within.result.code, 0, `exit codes within the grace (${within.result.text})`);
      same(fs.readFileSync(world.anchor, 'utf8'), kept, 'what the anchor holds');
      const refused = await eventually(async () => {
        const { result } = await ask(world);
        if (result.code === 0) throw new Error('still issued');
        return result.text;
      });
      has(refused, /audit|anchor/, 'the answer');
      filled.taken();
      await eventually(async () => same((await ask(world)).result.code, 0, 'exit codes'), 90);
      same(fs.readFileSync(world.anchor, 'utf8') === kept, false, 'whether the anchor holds what it held');
      has((await broker.admin(['audit', 'verify'])).stdout, /the anchor file .* agrees/);
      console.log(`        requests: ${JSON.stringify(compare(world.attempts, await log(world)))}`);
    });
    await broker.process.end();
  } finally {
    await disk.unmount();
  }
}

/** `/readyz`: its status. */
async function readiness({ health }) {
  return (await fetch(`http://${health}/readyz`)).status;
}
