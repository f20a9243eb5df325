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
