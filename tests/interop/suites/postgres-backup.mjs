// The part of suite `postgres` about `backup` and `restore`: one sealed file of a database that brokers write meanwhile.
import fs from 'node:fs';
import path from 'node:path';
import { check, has, same } from '../driver/report.mjs';
import { run } from '../driver/processes.mjs';
import { Broker, program } from '../driver/ichor.mjs';
import { ask, compare, log } from '../driver/ledger.mjs';

/** Broker 0 runs on `database`, and nothing else does. */
export async function backedUp(world, server, database) {
  const { brokers } = world;
  const { first } = brokers;
  const dir = path.join(world.dir, 'backup');
  fs.mkdirSync(dir);
  const [file, made] = ['broker.age', 'restored'].map((name) => path.join(dir, name));
  const identity = path.join(first.dir, 'vault', 'identity.txt');
  const before = { ...world, dir, attempts: [], label: 'before the backup' };

  await check('a backup of a database that is written meanwhile opens, is whole, and has all that was answered before it', async () => {
    for (let number = 0; number < 3; number += 1) same((await ask(before)).result.code, 0, 'exit codes');
    let goes_on = true;
    const meanwhile = { ...before, dir: path.join(dir, 'meanwhile'), attempts: [], label: 'beside the backup' };
    fs.mkdirSync(meanwhile.dir);
    const load = (async () => { while (goes_on) same((await ask(meanwhile)).result.code, 0, 'exit codes beside the backup'); })();
    await first.admin(['backup', file, '--reason', 'interop']);
    goes_on = false;
    await load;
    const drill = await first.admin(['restore', file, '--drill', '--identity', identity], { folder: false });
    has(drill.stdout, /^all good: .* checked whole; nothing was kept$/m);
    const { stdout } = await first.admin(['restore', file, '--to', made, '--identity', identity, '--reason', 'interop'], { folder: false });
    const entries = Number(stdout.match(/a log of (\d+) entries, checked whole/)?.[1]);
    has(stdout, 'fill an empty Postgres database');
    console.log(`        ${entries} entries; ${meanwhile.attempts.length} certificates were issued beside it`);

    await first.process.end();
    const url = path.join(made, 'database-url');
    fs.writeFileSync(url, await server.database('restored'), { mode: 0o600 });
    await first.admin(['store', 'copy', '--from', `sqlite:${path.join(made, 'data', 'ichor.db')}`, '--to', `@${url}`, '--reason', 'a restore'], { folder: false });
    const restored = Object.assign(new Broker(), { dir: made });
    has((await restored.admin(['audit', 'verify'])).stdout, /^no damage: /);
    const hash = `SELECT count(*), md5(string_agg(md5(leaf) || md5(body), '' ORDER BY idx)) FROM leaf JOIN body USING (idx) WHERE idx < ${entries}`;
    same(await server.sql('restored', hash), await server.sql(database, hash), `the first ${entries} entries`);

    has(await restored.refuses(['serve']), 'tells of a restore');
    has((await restored.admin(['audit', 'reopen', '--reason', 'a restore'])).stdout, /the log goes on as `[^`]+#2`/);
    await restored.start({ log: path.join(dir, 'restored.log') });
    const counts = compare(before.attempts, await log(world));
    same(counts.held, 3, 'certificates that the restored log has');
    // the certificate works, and the client says that the log has another name
    const { result } = await ask(meanwhile);
    same(result.code, 1, 'exit codes of the old session at the restored broker');
    has(result.text, 'was opened again as');
    await restored.process.end();
  });

  await check('a backup with one bit changed, or opened with another key, makes no folder', async () => {
    const bytes = fs.readFileSync(file);
    bytes[bytes.length >> 1] ^= 1;
    const [damaged, never, other] = ['damaged.age', 'never', 'other'].map((name) => path.join(dir, name));
    fs.writeFileSync(damaged, bytes, { mode: 0o600 });
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', other]);
    for (const [what, key] of [[damaged, identity], [file, other]]) {
      const refused = await run(program('ichor-broker'), ['restore', what, '--to', never, '--identity', key, '--reason', 'interop']);
      if (refused.code === 0) throw new Error(`${what} was restored`);
      has(refused.text, /is damaged|cannot be opened with this identity/);
      same(fs.existsSync(never), false, 'whether a folder was made');
    }
  });
  fs.rmSync(made, { recursive: true, force: true });
}
