// The stand-in node of the in-process tests is given the same calls as the real one, and must answer alike: otherwise those
// tests prove nothing about Talos.
import fs from 'node:fs';
import path from 'node:path';
import { check, same } from '../driver/report.mjs';
import { Node, StandInNode, TalosCluster, tool } from '../driver/peers.mjs';
import { done, run as execute } from '../driver/processes.mjs';

export const needs = ['talos'];

/** What is tried: how the certificate is made, and what is called with it. */
const certificates = {
  reader: ['-o', 'os:reader|user:alice@example.test|grant:01'],
  operator: ['-o', 'os:operator'],
  admin: ['-o', 'os:admin'],
  'reader in separate RDNs': ['-o', 'os:reader|user:alice', '-separate-rdns'],
  'no role at all': ['-o', 'user:alice'],
  'a role with blanks around it': ['-o', ' os:admin '],
  'a role in upper case': ['-o', 'OS:ADMIN'],
  'two roles in one value': ['-o', 'os:reader,os:admin'],
  'a name that is not ASCII': ['-o', 'os:reader|user:ålice'],
  'for servers only': ['-eku', 'server'],
  'for clients and servers': ['-eku', 'both'],
  'for anything': ['-eku', 'any'],
  'for nothing in particular': ['-eku', 'none'],
  'for clients and something unknown': ['-eku', 'client+unknown'],
  'a CA as leaf': ['-is-ca', '-eku', 'both'],
  'a P-256 key': ['-key', 'p256'],
  'an RSA key': ['-key', 'rsa'],
  expired: ['-nb', '-2h', '-na', '-1h'],
  'not yet valid': ['-nb', '1h', '-na', '2h'],
};
const methods = ['Version', 'Hostname', 'Dmesg', 'Reboot', 'Read'];

/** Where the stand-in is known to be stricter than a node: it refuses what Go lets pass. */
const stricter = ['a CA as leaf'];

export async function run(dir) {
  const cluster = await TalosCluster.make(path.join(dir, 'cluster'), 'parity');
  const foreign = path.join(dir, 'foreign');
  await done(tool('mintcfg'), ['-make-ca', foreign]);
  const accepted = path.join(dir, 'accepted.pem');
  fs.writeFileSync(accepted, cluster.ca());
  const real = await Node.start(path.join(dir, 'real'), { address: '127.0.0.2', hostname: 'parity', config: cluster.config });
  const standIn = await StandInNode.start(path.join(dir, 'stand-in'), { accepted, hostname: 'parity' });

  const every = { ...certificates, 'of a CA that nobody accepts': ['-signer', foreign] };
  for (const [name, args] of Object.entries(every)) {
    const loose = stricter.includes(name);
    await check(`a certificate ${name}: the stand-in ${loose ? 'refuses, though the real node does not' : 'answers like the real node'}`, async () => {
      const ours = await answers(await cluster.made('stand-in', [...args, '-node-ca', standIn.ca]), standIn.endpoint);
      const theirs = await answers(await cluster.made('real', args), `${real.address}:50000`);
      if (!loose) return same(ours, theirs, 'answers');
      same(Object.values(ours).map((a) => a.code), methods.map(() => 'Unavailable'), 'the stand-in\'s answers');
      return same(theirs.Version.code, 'OK', 'the real node\'s answer; take it off the list of differences');
    });
  }

  await metadata(cluster, real, standIn);
}

/** Callers who make up what only an apid may say. */
async function metadata(cluster, real, standIn) {
  const reader = ['-o', 'os:reader|user:alice'];
  for (const pairs of [['talos-role=os:admin'], ['proxyfrom=10.0.0.1'], ['x-note=anything'], ['nodes=127.0.0.99']]) {
    await check(`metadata ${pairs.join(' ')}: the stand-in answers like the real node`, async () => {
      const [ours, theirs] = [[standIn.endpoint, ['-node-ca', standIn.ca]], [`${real.address}:50000`, []]];
      const said = [];
      for (const [endpoint, more] of [ours, theirs]) {
        const talosconfig = await cluster.made('made-up', [...reader, ...more]);
        said.push([(await call(talosconfig, endpoint, 'Version', pairs)).code, (await call(talosconfig, endpoint, 'Reboot', pairs)).code]);
      }
      same(said[0], said[1], 'codes');
    });
  }
}

async function answers(talosconfig, endpoint) {
  const all = {};
  for (const method of methods) all[method] = await call(talosconfig, endpoint, method);
  return all;
}

/**
 * The code, and the message where the node itself wrote it: a failed handshake reads differently each time. What the
 * stand-in lets in but has no answer for counts as let in.
 */
async function call(talosconfig, endpoint, method, pairs = []) {
  const { stdout } = await execute(tool('call'), [talosconfig, endpoint, method, ...pairs]);
  const { code, message } = JSON.parse(stdout);
  if (code === 'Unavailable') return { code };
  if (code === 'Unimplemented' && message.startsWith('the stand-in')) return { code: 'OK', message: '' };
  return { code, message };
}
