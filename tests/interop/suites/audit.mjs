// The audit log's formats before a judge that knows nothing of Ichor: golang.org/x/mod/sumdb's tlog and note, over the published
// vectors, and over the same with one bit changed.
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { check, has } from '../driver/report.mjs';

export const needs = ['tlog'];

const here = path.dirname(fileURLToPath(import.meta.url));
const judge = path.join(here, '../.work/bin/tlogjudge');
const vectors = path.join(here, '../../vectors/audit');
const does = promisify(execFile);

export async function run(dir) {
  await check("Go's tlog and note verify the published log: checkpoints, tiles, proofs, receipts, the export", async () => {
    const { stdout } = await does(judge, ['vectors', vectors]);
    for (const part of ['300 leaf hashes in tiles: all lead to the root', '36 consistency proofs hold', '9 receipts hold',
      'export: 300 entries, 1 without body, 2 keys, all as signed']) has(stdout, part);
  });
  await check('and no longer where a body is gone of which no entry says that it was dropped', async () => {
    const copy = path.join(dir, 'gone');
    fs.cpSync(vectors, copy, { recursive: true });
    fs.writeFileSync(path.join(copy, 'export.cbor'), withoutBody(10));
    const failed = await does(judge, ['vectors', copy]).then(() => null, (error) => error);
    has(`${failed?.stderr}`, 'entry 10 has no body');
  });
  for (const name of ['checkpoint', 'tile/0/000', 'tile/1/000.p/1', 'tile/entries/001.p/44', 'export.cbor']) {
    await check(`and no longer with one bit of ${name} changed`, async () => {
      const copy = path.join(dir, name.replaceAll('/', '-'));
      fs.cpSync(vectors, copy, { recursive: true });
      const bytes = fs.readFileSync(path.join(copy, name));
      bytes[bytes.length - 7] ^= 1;
      fs.writeFileSync(path.join(copy, name), bytes);
      const failed = await does(judge, ['vectors', copy]).then(() => null, (error) => error);
      if (!failed) throw new Error('the judge saw nothing');
    });
  }
}

// The published export with an entry's leaf record in place of its body.
function withoutBody(index) {
  const read = (name) => fs.readFileSync(path.join(vectors, name));
  const [whole, bundle] = [read('export.cbor'), read('tile/entries/000')];
  const hash = read('tile/0/000').subarray(index * 32, index * 32 + 32);
  let from = 0;
  for (let before = 0; before < index; before++) from += 2 + bundle.readUInt16BE(from);
  const leaf = bundle.subarray(from + 2, from + 2 + bundle.readUInt16BE(from));
  // an item is `83 01 5820 HASH`, then the head of the entry's bytes
  const start = whole.indexOf(hash) - 4;
  const body = start + 36;
  const [headBytes, length] = whole[body] === 0x58 ? [2, whole[body + 1]] : [3, whole.readUInt16BE(body + 1)];
  const item = Buffer.concat([Buffer.from([0x83, 2, 0x58, 32]), hash, Buffer.from([0x58, leaf.length]), leaf]);
  return Buffer.concat([whole.subarray(0, start), item, whole.subarray(body + headBytes + length)]);
}
