// Custody "Talos API" on real parts: the operator has nothing but the talosconfig that talosctl made. The broker adopts it, and
// each certificate, with its key, is made by the cluster: by Talos' own generator, behind the real apid.
import fs from 'node:fs';
import path from 'node:path';
import { check, has, lacks, same } from '../driver/report.mjs';
import { done } from '../driver/processes.mjs';
import { ALIAS, Broker, Person, credentials } from '../driver/ichor.mjs';
import { Node, Provider, TalosCluster, tool } from '../driver/peers.mjs';

export const needs = ['talos', 'oidc'];

const policies = `
@id("sre-read-prod") @max_ttl("8h")
permit (principal in Group::"${ALIAS}/sre", action == Action::"hold:os:reader", resource in Label::"env=prod");
@id("sre-audit")
permit (principal in Group::"${ALIAS}/sre", action == Action::"audit:read", resource);
`;

export async function run(dir) {
  const broker = await Broker.plan(dir);
  const provider = await Provider.start(dir, [broker.client()]);
  const cluster = await TalosCluster.make(path.join(dir, 'cluster'), 'prod');
  const node = await Node.start(path.join(dir, 'node-a'), { address: '127.0.0.2', hostname: 'node-a', config: cluster.config });
  const config = (...args) => done(tool('talosctl'), ['--talosconfig', cluster.talosconfig, 'config', ...args]);
  await config('endpoint', '127.0.0.9', node.address); // nobody is at the first
  await config('node', node.address);
  await broker.init(provider, policies);
  const adopt = (file, ...more) => ['cluster', 'add', 'prod', '--adopt', file, '--label', 'env=prod', '--reason', 'interop', ...more];

  await check('a talosconfig that is not os:admin is not adopted', async () => {
    const reader = await cluster.made('reader', ['-o', 'os:reader', '-endpoint', node.address]);
    has(await broker.refuses(adopt(reader)), 'not `os:admin`');
  });
  await check('a talosconfig of another cluster with the same endpoint is not adopted', async () => {
    const other = await TalosCluster.make(path.join(dir, 'other'), 'other');
    await done(tool('talosctl'), ['--talosconfig', other.talosconfig, 'config', 'endpoint', node.address]);
    has(await broker.refuses(adopt(other.talosconfig)), "another cluster's CA");
  });
  await check('the talosconfig that talosctl made is adopted: the node was asked, and made nothing', async () => {
    const said = (await broker.admin(adopt(cluster.talosconfig))).stdout;
    has(said, 'runs v1.13.9 and takes it');
    has(said, 'rotate-ca');
    lacks(node.machinedLog(), 'OK [/machine.MachineService/GenerateClientConfiguration]');
  });

  await broker.start({ log: path.join(dir, 'broker.log') });
  const alice = new Person(path.join(dir, 'alice'), { dir, broker, provider });
  await alice.loggedIn({ login: 'alice' });

  await check('stock talosctl works with the certificate and key that the cluster made, by its roles', async () => {
    await alice.does(['talosconfig', 'prod']);
    const version = await alice.talosctl(['--context', 'prod', '-e', node.address, '-n', node.address, 'version']);
    same(version.code, 0, `exit codes (${version.text})`);
    const reboot = await alice.talosctl(['--context', 'prod', '-e', node.address, '-n', node.address, 'reboot', '--wait=false']);
    has(reboot.text, 'PermissionDenied');
    const line = node.machinedLog().split('\n').filter((l) => l.includes('/machine.MachineService/Version')).at(-1);
    has(line, 'talos-role=os:reader;', 'the line');
    const { crt } = credentials(alice.talosconfig, 'prod');
    const leaf = path.join(dir, 'leaf.pem');
    fs.writeFileSync(leaf, crt);
    const ca = path.join(dir, 'os-ca.pem');
    fs.writeFileSync(ca, cluster.ca());
    has((await done('openssl', ['verify', '-purpose', 'sslclient', '-CAfile', ca, leaf])).text, 'OK');
  });
  await check('whose key it is stands in the status and in the audit', async () => {
    has((await alice.does(['status'])).stdout, 'its key was made by the cluster, not on this machine');
    const log = await alice.json(['audit', 'log', '--kind', 'issued', '--cluster', 'prod']);
    has(JSON.stringify(log), '"key_made_by":"cluster"');
  });
  await check('a second run knows the context again, and a renewal needs no --replace', async () => {
    const before = fs.readFileSync(alice.talosconfig, 'utf8');
    await alice.does(['talosconfig', 'prod']);
    same(fs.readFileSync(alice.talosconfig, 'utf8'), before, 'files');
    await alice.does(['talosconfig', 'prod', '--ttl', '10m']);
    lacks(fs.readFileSync(alice.talosconfig, 'utf8'), credentials(path.join(dir, 'cluster', 'talosconfig'), 'prod').crt.slice(60, 120));
  });

  const delegate = (...more) => ['ca', 'delegate', 'minted', '--reason', 'interop', ...more];
  await check('with a CA in custody that no endpoint accepts, the cluster is not asked to make certificates', async () => {
    await broker.admin(['cluster', 'add', 'minted', '--from', cluster.talosconfig, '--label', 'env=prod', '--reason', 'interop']);
    await broker.admin(['ca', 'create', 'minted', '--reason', 'interop']);
    has(await broker.refuses(delegate()), 'no endpoint accepts the CA, so nothing was changed');
  });
  await check('once the node has the patch, the cluster makes certificates, asked with one of os:admin that the CA mints', async () => {
    const patch = (await broker.admin(['ca', 'patch', 'minted'])).stdout;
    has(await node.apply(await cluster.patchFrom(cluster.config, [patch], 'minted.yaml')), '2 accepted');
    has((await broker.admin(delegate())).stdout, 'the cluster makes the certificates from now on');
    await alice.does(['talosconfig', 'minted']);
    const version = await alice.talosctl(['--context', 'minted', '-e', node.address, '-n', node.address, 'version']);
    same(version.code, 0, `exit codes (${version.text})`);
    const leaf = path.join(dir, 'minted-leaf.pem');
    fs.writeFileSync(leaf, credentials(alice.talosconfig, 'minted').crt);
    has((await done('openssl', ['verify', '-purpose', 'sslclient', '-CAfile', path.join(dir, 'os-ca.pem'), leaf])).text, 'OK');
    const line = node.machinedLog().split('\n').filter((l) => l.includes('OK [/machine.MachineService/GenerateClientConfiguration]')).at(-1);
    has(line, 'user:~system', 'the line');
    has(line, 'os:admin', 'the line');
  });
  await check('each certificate that was minted is a grant to the broker itself, and one serves many', async () => {
    await alice.does(['talosconfig', 'minted', '--ttl', '10m']);
    const answer = await alice.json(['audit', 'log', '--all', '--kind', 'grant', '--cluster', 'minted']);
    const entries = Array.isArray(answer) ? answer : answer.entries;
    const own = entries.filter(({ user, detail }) => user === '~system' && detail.roles === 'os:admin');
    same(own.length, 1, `grants of os:admin to the broker (${JSON.stringify(entries)})`);
  });
  await check('ca delegate --end has the CA sign itself again', async () => {
    await broker.admin(delegate('--end'));
    await alice.does(['talosconfig', 'minted', '--ttl', '20m', '--replace']);
    const version = await alice.talosctl(['--context', 'minted', '-e', node.address, '-n', node.address, 'version']);
    same(version.code, 0, `exit codes (${version.text})`);
    const line = node.machinedLog().split('\n').filter((l) => l.includes('/machine.MachineService/Version')).at(-1);
    has(line, 'grant:', 'the line');
  });
}
