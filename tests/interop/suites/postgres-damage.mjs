// The part of suite `postgres` about a log that someone changed in the database: on copies of the one that the suite has filled,
// each change is found by `audit verify` and by a start, which say where; and a copy from before is found by an anchor.
import fs from 'node:fs';
import path from 'node:path';
import { check, has } from '../driver/report.mjs';
import { done } from '../driver/processes.mjs';
import { ask } from '../driver/ledger.mjs';

/** Each on a copy of its own: what is done to it, and what both must say. `at` is a place in the middle, `size` the log's. */
const DAMAGE = [
  ['one bit of a body', ({ at }) => flip('body', 'body', at), ({ at }) => `audit entry ${at}: its body is not the one that was recorded`],
  ['one bit of a leaf', ({ at }) => flip('leaf', 'leaf', at), ({ at }) => `audit entry ${at}: its `],
  ['one bit of a tile', () => 'UPDATE tile SET hashes = set_bit(hashes, 4242, 1 - get_bit(hashes, 4242)) WHERE level = 0 AND idx = 0',
    () => 'tile 0 of level 0, over the entries 0 to 255, is missing or was changed'],
  ['a name of what was recorded', ({ at }) => `UPDATE leaf SET person = NULL, kind = kind + 1 WHERE idx = ${at}`,
    ({ at }) => `audit entry ${at}: the columns`],
  ['a row taken out', ({ at }) => `DELETE FROM leaf WHERE idx = ${at}; DELETE FROM body WHERE idx = ${at}`,
    ({ at }) => `audit entry ${at}: it is missing`],
  ['two entries in each other\'s place', ({ at }) => ['leaf', 'body'].map((table) => swapped(table, at, at + 1)).join(';'),
    ({ at }) => `audit entry ${at}: its leaf is that of entry ${at + 1}`],
  ['an entry recorded once more, at another\'s place', ({ at }) => `${copied('leaf', at - 3, at)}; ${copied('body', at - 3, at)}`,
    ({ at }) => `audit entry ${at}: its leaf is that of entry ${at - 3}`],
  ['an entry recorded once more, at the end', ({ at, size }) => `${copied('leaf', at, size)}; ${copied('body', at, size)};
    UPDATE log_head SET size = size + 1, root = NULL`, ({ at, size }) => `audit entry ${size}: its leaf is that of entry ${at}`],
  ['bodies truncated', () => 'TRUNCATE body', () => 'audit entry 0: '],
  ['leaves truncated', () => 'TRUNCATE leaf', () => /audit entry (0: it|256) is missing/],
  ['tiles truncated', () => 'TRUNCATE tile', () => 'tile 0 of level 0'],
  ['the end cut off, and everything made to fit', ({ size }) => `DELETE FROM leaf WHERE idx >= ${size - 5}; DELETE FROM body WHERE idx >= ${size - 5};
    UPDATE log_head SET size = ${size - 5}, time = (SELECT max(time) FROM leaf), root = NULL`,
  ({ size }) => new RegExp(`checkpoint (speaks of|says) ${size}\\b.*\\b${size - 5}\\b|has ${size - 5} entries where its checkpoint says ${size}`)],
  ['a checkpoint with another root', () => "UPDATE checkpoint SET note = regexp_replace(note, E'^([^\\n]*\\n[0-9]+\\n).{4}', E'\\\\1AAAA')",
    () => /checkpoint.*signature|checkpoint is not one that our key signed/],
  ['a checkpoint of another size', () => "UPDATE checkpoint SET size = size - 1, note = regexp_replace(note, E'\\n[0-9]+\\n', E'\\n' || (size - 1) || E'\\n')",
    () => /checkpoint.*signature|checkpoint is not one that our key signed/],
  ['a checkpoint\'s row with another number', () => 'UPDATE checkpoint SET size = size + 7', () => /checkpoint's row says \d+ entries/],
  ['the checkpoint taken out', () => 'DELETE FROM checkpoint', () => 'checkpoint is missing, though it has been signed before'],
];

/** Nobody is connected to `database`, which the first broker's folder names. */
export async function damaged({ brokers: { first } }, server, database) {
  const urlFile = path.join(first.dir, 'database-url');
  const size = Number(await server.sql(database, 'SELECT size FROM log_head'));
  if (size <= 256) throw new Error(`a log of ${size} entries has no whole tile`);
  const place = { size, at: Number(await server.sql(database, `SELECT max(idx) FROM body WHERE idx <= ${size >> 1}`)) };

  await check('a copy of the database is whole, for audit verify and for a start', async () => {
    await copy(server, database, urlFile);
    has((await first.admin(['audit', 'verify'])).stdout, new RegExp(`^no damage: ${size} entries`));
    await first.start({ log: path.join(first.dir, '..', 'copy.log') });
    await first.process.end();
  });
  for (const [what, change, words] of DAMAGE) {
    await check(`changed in the database, ${what}: audit verify and a start say where`, async () => {
      const name = await copy(server, database, urlFile);
      const before = await contents(server, name);
      await server.sql(name, change(place));
      if (await contents(server, name) === before) throw new Error('nothing was changed');
      for (const args of [['audit', 'verify'], ['serve']]) has(await first.refuses(args), words(place), args.join(' '));
    });
  }
  fs.writeFileSync(urlFile, server.url(database), { mode: 0o600 });
}

/** A dump from before, put back: fits together in itself, and is found out by the anchor and by nothing else. */
export async function rolledBack(world, server, database) {
  const { dir, brokers } = world;
  const { first, balancer } = brokers;
  const [urlFile, config] = ['database-url', 'config.toml'].map((name) => path.join(first.dir, name));
  const [plain, disk] = [fs.readFileSync(config, 'utf8'), path.join(dir, 'another-disk')];
  fs.mkdirSync(disk);
  await check('an older dump put back is refused by audit verify and by a start, for the anchor knows more; without one it is whole', async () => {
    const name = await copy(server, database, urlFile);
    fs.writeFileSync(config, `${plain}\n[audit]\nanchor_file = "${path.join(disk, 'checkpoint')}"\n`);
    await brokers.start(0);
    balancer.to(0);
    const dump = path.join(server.dir, 'dump.sql');
    await done('pg_dump', ['-h', server.dir, '-p', String(server.port), '-U', 'ichor', '-d', name, '-f', dump]);
    const later = { ...world, attempts: [], dir: disk };
    for (let more = 0; more < 2; more += 1) {
      const { result } = await ask(later);
      if (result.code !== 0) throw new Error(result.text);
    }
    await first.process.end();
    has((await first.admin(['audit', 'verify'])).stdout, 'the anchor file');

    fs.writeFileSync(urlFile, await server.database('replayed'), { mode: 0o600 });
    await done('psql', ['-h', server.dir, '-p', String(server.port), '-U', 'ichor', '-d', 'replayed', '-qX', '-v', 'ON_ERROR_STOP=1', '-f', dump]);
    for (const args of [['audit', 'verify'], ['serve']]) {
      has(await first.refuses(args), /anchor file .*(speaks of|says) \d+/s, args.join(' '));
    }
    fs.writeFileSync(config, plain);
    const { stdout } = await first.admin(['audit', 'verify']);
    has(stdout, /^no damage: /);
    has(stdout, 'rollback not detected here');
  });
  fs.writeFileSync(config, plain);
  fs.writeFileSync(urlFile, server.url(database), { mode: 0o600 });
}

/** Names a fresh copy of the database in the broker's folder. */
async function copy(server, database, urlFile) {
  await server.sql('postgres', 'DROP DATABASE IF EXISTS damaged');
  await server.sql('postgres', `CREATE DATABASE damaged TEMPLATE ${database}`);
  fs.writeFileSync(urlFile, server.url('damaged'), { mode: 0o600 });
  return 'damaged';
}

/** All that makes the log, as one hash. */
function contents(server, name) {
  const tables = ['leaf', 'body', 'tile', 'checkpoint', 'log_head'];
  const hashes = tables.map((table) => `coalesce((SELECT string_agg(md5(t::text), '' ORDER BY md5(t::text)) FROM ${table} t), '')`);
  return server.sql(name, `SELECT md5(${hashes.join(' || ')})`);
}

/** The lowest bit of the middle byte. */
function flip(table, column, at) {
  const bit = `8 * (length(${column}) / 2)`;
  return `UPDATE ${table} SET ${column} = set_bit(${column}, ${bit}, 1 - get_bit(${column}, ${bit})) WHERE idx = ${at}`;
}

function swapped(table, a, b) {
  return `UPDATE ${table} SET idx = -1 WHERE idx = ${a}; UPDATE ${table} SET idx = ${a} WHERE idx = ${b}; UPDATE ${table} SET idx = ${b} WHERE idx = -1`;
}

function copied(table, from, to) {
  const columns = table === 'leaf' ? 'time, kind, person, cluster, grant_id, leaf' : 'body';
  return `DELETE FROM ${table} WHERE idx = ${to}; INSERT INTO ${table} (idx, ${columns}) SELECT ${to}, ${columns} FROM ${table} WHERE idx = ${from}`;
}
