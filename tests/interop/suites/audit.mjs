// The audit log's formats before a judge that knows nothing of Ichor: golang.org/x/mod/sumdb's tlog and note, over the published
// vectors, over the same with one bit changed, and over what a running broker serves.
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { check, has, same } from '../driver/report.mjs';
import { ALIAS, Broker, Person } from '../driver/ichor.mjs';
import { Provider, tlsFor } from '../driver/peers.mjs';
import { keptSession, send } from '../driver/proof.mjs';

export const needs = ['tlog', 'oidc'];

const policies = `
@id("read") permit (principal in Group::"${ALIAS}/sre", action == Action::"hold:os:reader", resource);
@id("audit") permit (principal in Group::"${ALIAS}/sre", action == Action::"audit:read", resource);
`;

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
  await live(path.join(dir, 'live'));
}

// What a running broker serves, with its key as the operator hands it out.
async function live(dir) {
  fs.mkdirSync(dir, { recursive: true });
  const broker = await Broker.plan(dir);
  const provider = await Provider.start(dir, [broker.client()]);
  const { ca } = await tlsFor(dir, 'node');
  const encoded = fs.readFileSync(ca).toString('base64');
  const facts = path.join(dir, 'talosconfig');
  fs.writeFileSync(facts, `context: prod\ncontexts:\n  prod:\n    endpoints: [127.0.0.9]\n    ca: ${encoded}\n`);
  await broker.init(provider, policies, { sections: '[audit]\ntile_token_file = "tile-token"\n' });
  const token = path.join(broker.dir, 'tile-token');
  fs.writeFileSync(token, '0123456789abcdef0123456789abcdef\n', { mode: 0o600 });
  await broker.admin(['cluster', 'add', 'prod', '--from', facts, '--label', 'env=prod', '--reason', 'interop']);
  await broker.admin(['ca', 'create', 'prod', '--reason', 'interop']);
  const key = path.join(dir, 'key');
  fs.writeFileSync(key, (await broker.admin(['audit', 'key'])).stdout);
  await broker.start({ log: path.join(dir, 'broker.log') });
  const alice = new Person(path.join(dir, 'alice'), { broker, provider });
  await alice.loggedIn({ login: 'alice' });
  await alice.does(['talosconfig', 'prod']);

  await check("Go's tlog and note verify a running broker's checkpoint and tiles, by their token", async () => {
    const { stdout } = await does(judge, ['log', key, `${broker.url}/log`, token], { env: { ...process.env, SSL_CERT_FILE: broker.ca() } });
    has(stdout, 'all lead to the root');
    const own = await alice.does(['audit', 'verify', '--from', `${broker.url}/log`, '--token-file', token, '--pubkey', key, '--ca', broker.ca()]);
    has(own.stdout, 'given by their hashes alone');
  });
  await check('and that the log went on from what it was: two checkpoints some entries apart, and not with one bit changed', () => (
    continued(path.join(dir, 'continued'), { broker, alice, key, token })));
  await check('and its whole log, as the client keeps it, but not with one byte changed', async () => {
    const file = path.join(dir, 'log.cbor');
    await alice.does(['audit', 'verify', '--keep', file, '--pubkey', key]);
    has((await does(judge, ['export', key, file])).stdout, 'all as signed');
    const bytes = fs.readFileSync(file);
    bytes[bytes.length >> 1] ^= 1;
    fs.writeFileSync(file, bytes);
    const failed = await does(judge, ['export', key, file]).then(() => null, (error) => error);
    if (!failed) throw new Error('the judge saw nothing');
    await alice.fails(['audit', 'verify', '--from', file, '--pubkey', key]);
  });
  await check('and the proof of a certificate that the client took', async () => {
    const [context] = (await alice.json(['status', '--verify'])).contexts;
    const file = path.join(dir, 'proof.json');
    await alice.does(['audit', 'prove', context.grant, '--to', file]);
    has((await does(judge, ['proof', key, file])).stdout, 'is proven');
    has((await alice.does(['audit', 'check-proof', file, '--pubkey', key])).stdout, 'kind: issued');
  });
}

// Two checkpoints of a running broker with two certificates between them, and its proof that the one continues the other.
async function continued(dir, { broker, alice, key, token }) {
  fs.mkdirSync(dir);
  const ask = (url, headers) => send({ port: broker.port, ca: broker.ca(), url, headers });
  const kept = (name, text) => {
    const file = path.join(dir, name);
    fs.writeFileSync(file, text);
    return file;
  };
  const bearer = { authorization: `Bearer ${fs.readFileSync(token, 'utf8').trim()}` };
  const head = async () => {
    const { status, body } = await ask(`${broker.url}/log/checkpoint`, bearer);
    same(status, 200, `statuses (${body})`);
    return body;
  };
  const size = (note) => Number(note.split('\n')[1]);
  const before = await head();
  for (const name of ['one', 'two']) await alice.does(['talosconfig', 'prod', '--reason', name, '--talosconfig', path.join(dir, name)]);
  const after = await head();
  if (size(after) < size(before) + 4) throw new Error(`two certificates and four entries made ${size(before)} to ${size(after)}`);

  const { token: session, key: proofKey } = keptSession(alice.home);
  const { nonce } = await ask(`${broker.url}/v1/session`);
  const consistency = async (from, to) => {
    const url = `${broker.url}/v1/audit/consistency`;
    const proof = proofKey.proof({ method: 'GET', url, token: session, nonce });
    return ask(`${url}?from=${from}&to=${to}`, { authorization: `DPoP ${session}`, dpop: proof });
  };
  const { status, body } = await consistency(size(before), size(after));
  same(status, 200, `statuses (${body})`);
  const [older, newer, proof] = [kept('older', before), kept('newer', after), kept('proof.json', body)];
  has((await does(judge, ['consistency', key, older, newer, proof])).stdout, `the log of ${size(after)} entries continues the one of ${size(before)}`);

  const flipped = (text, at) => `${text.slice(0, at)}${String.fromCharCode(text.charCodeAt(at) ^ 1)}${text.slice(at + 1)}`;
  // a checkpoint's last line is its signature, the third its root
  const root = (note) => note.split('\n', 2).join('\n').length + 5;
  const hash = body.indexOf('"', body.indexOf('[')) + 5;
  for (const [what, ...files] of [
    ['the older root', kept('a', flipped(before, root(before))), newer, proof],
    ['the newer root', older, kept('b', flipped(after, root(after))), proof],
    ['the proof', older, newer, kept('c', flipped(body, hash))],
    ['the order', newer, older, proof],
    ['the proof, of another pair', older, newer, kept('d', (await consistency(size(before) - 1, size(after))).body)],
  ]) {
    const failed = await does(judge, ['consistency', key, ...files]).then(() => null, (error) => error);
    if (!failed) throw new Error(`the judge saw nothing: ${what}`);
    console.log(`        ${what}: ${failed.stderr.trim()}`);
  }
  same((await consistency(size(after), size(before))).status, 400, 'statuses of two sizes the wrong way round');
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
