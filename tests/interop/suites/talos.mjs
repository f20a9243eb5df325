// The main job on real parts: a person logs in through a provider, gets a short-lived certificate, and stock talosctl works
// with it on real apids, which trust the broker's own CA by a patch of `machine.acceptedCAs`.
import fs from 'node:fs';
import path from 'node:path';
import { check, has, lacks, same } from '../driver/report.mjs';
import { done, run as execute } from '../driver/processes.mjs';
import { ALIAS, Broker, Person, credentials } from '../driver/ichor.mjs';
import { Node, Provider, TalosCluster, tool } from '../driver/peers.mjs';
import { ending } from './ending.mjs';

export const needs = ['talos', 'oidc'];

const policies = `
@id("sre-read-prod") @max_ttl("8h")
permit (principal in Group::"${ALIAS}/sre", action == Action::"hold:os:reader", resource in Label::"env=prod");
@id("sre-audit")
permit (principal in Group::"${ALIAS}/sre", action == Action::"audit:read", resource);
`;

export async function run(dir) {
  const world = await build(dir);
  const { alice, broker, nodes, cluster } = world;

  await check('the dedicated CA is trusted by the printed patch, applied with talosctl machineconfig patch', async () => {
    for (const node of nodes) has(await node.apply(cluster.trusting), '3 accepted');
  });

  await check('the patch of a CA that is there already says so', async () => {
    has(await broker.refuses(['ca', 'patch', 'prod', '--machine-config', cluster.trusting]), 'already');
    same((await broker.admin(['ca', 'patch', 'prod', '--machine-config', cluster.config])).stdout, cluster.ourPatch, 'patches');
  });

  await check('a person logs in through the provider, and the confirmation page shows the number of their terminal', async () => {
    let seen;
    const result = await alice.loggedIn({ login: 'alice' }, { confirm: (shown) => { seen = shown; return true; } });
    has(seen.words, seen.number, 'the page');
    has(seen.words, 'alice', 'the page');
    has(seen.page.headers['content-security-policy'], "frame-ancestors 'none'", 'its policy');
    has(result.url, 'dpop_jkt=', 'the authorization request');
  });

  const before = 'context: mine\ncontexts:\n    mine: # a colleague made this\n        endpoints: [10.9.9.9]\n        future-field: kept\n';
  await check('ichor talosconfig adds a context and leaves every other byte alone', async () => {
    fs.mkdirSync(path.dirname(alice.talosconfig), { recursive: true });
    fs.writeFileSync(alice.talosconfig, before, { mode: 0o600 });
    await alice.does(['talosconfig', 'prod']);
    const after = fs.readFileSync(alice.talosconfig, 'utf8');
    has(after, before.trimEnd(), 'the file');
    same(fs.statSync(alice.talosconfig).mode & 0o777, 0o600, 'modes');
  });

  const on = (node) => ['--context', 'prod', '-n', node.address];
  await check('stock talosctl reads the version of both nodes', async () => {
    for (const node of nodes) {
      const result = await alice.talosctl([...on(node), 'version']);
      same(result.code, 0, `exit codes (${result.text})`);
      has(result.stdout, answered(node));
    }
  });
  await check('a reader may read dmesg', async () => {
    const result = await alice.talosctl([...on(nodes[0]), 'dmesg']);
    same(result.code, 0, `exit codes (${result.text})`);
    has(result.stdout, 'kern line 0');
  });
  await check('a reader may not reboot', async () => {
    const result = await alice.talosctl([...on(nodes[0]), 'reboot', '--wait=false']);
    if (result.code === 0) throw new Error(result.text);
    has(result.text, 'PermissionDenied');
  });

  await check('the node\'s own log names the person and the grant that the audit has', async () => {
    const entries = entriesOf(await alice.json(['audit', 'log', '--kind', 'issued', '--cluster', 'prod']));
    const { grant_id: grant, user } = entries[0];
    const line = nodes[0].machinedLog().split('\n').filter((l) => l.includes('/machine.MachineService/Dmesg')).at(-1);
    has(line, `talos-role=grant:${grant},os:reader,user:${user};`, 'the line');
    has(user, 'alice@example.test', 'the user');
    const grants = entriesOf(await alice.json(['audit', 'log', '--kind', 'grant', '--cluster', 'prod']));
    same(grants.some((g) => g.grant_id === grant && g.index < entries[0].index), true, 'the grant recorded before the certificate');
  });

  await certificate(world);

  await check('ichor exec runs talosctl with a certificate of its own', async () => {
    const result = await alice.does(['exec', 'prod', '--', 'talosctl', '-n', nodes[1].address, 'version']);
    has(result.stdout, answered(nodes[1]));
    const failed = await alice.ichor(['exec', 'prod', '--', 'talosctl', '-n', nodes[1].address, 'reboot', '--wait=false']);
    same(failed.code, 1, 'exit codes');
  });

  await check('ichor doctor finds both nodes well', async () => {
    const result = await alice.does(['doctor', 'prod']);
    for (const node of nodes) has(result.text, node.address);
    lacks(result.text, /acceptedCAs|unreachable/);
  });

  await check('someone without a policy gets nothing, and hears why', async () => {
    const bob = new Person(path.join(dir, 'bob'), world);
    await bob.loggedIn({ login: 'bob' });
    const text = await bob.fails(['talosconfig', 'prod']);
    has(text, /os:reader/);
    lacks(text, 'panicked');
    same(fs.existsSync(bob.talosconfig), false, 'a talosconfig');
  });

  await ending(world);
}

/** Provider, two nodes that trust someone else's CA already, a broker with a dedicated CA. */
async function build(dir) {
  const broker = await Broker.plan(dir);
  const provider = await Provider.start(dir, [broker.client()]);
  const cluster = await TalosCluster.make(path.join(dir, 'cluster'), 'prod');
  cluster.foreign = path.join(dir, 'foreign');
  await done(tool('mintcfg'), ['-make-ca', cluster.foreign]);
  cluster.config = await cluster.patch([acceptedCA(fs.readFileSync(`${cluster.foreign}.crt`))], 'with-foreign.yaml');
  const nodes = [];
  for (const [hostname, address] of [['node-a', '127.0.0.2'], ['node-b', '127.0.0.3']]) {
    nodes.push(await Node.start(path.join(dir, hostname), { address, hostname, config: cluster.config }));
  }
  await done(tool('talosctl'), ['--talosconfig', cluster.talosconfig, 'config', 'endpoint', ...nodes.map((n) => n.address)]);
  await done(tool('talosctl'), ['--talosconfig', cluster.talosconfig, 'config', 'node', ...nodes.map((n) => n.address)]);

  await broker.init(provider, policies);
  await broker.admin(['cluster', 'add', 'prod', '--from', cluster.talosconfig, '--label', 'env=prod', '--reason', 'interop']);
  const created = await broker.admin(['ca', 'create', 'prod', '--reason', 'interop']);
  has(created.stdout, 'ichor-broker ca patch prod');
  cluster.ourPatch = (await broker.admin(['ca', 'patch', 'prod'])).stdout;
  cluster.trusting = await cluster.patch([cluster.ourPatch], 'trusting.yaml');
  await broker.start({ log: path.join(dir, 'broker.log') });

  const world = { dir, broker, provider, cluster, nodes };
  world.alice = new Person(path.join(dir, 'alice'), world);
  return world;
}

/** The certificate as OpenSSL and Go judge it. */
async function certificate({ dir, alice, broker, cluster }) {
  const { crt, key } = credentials(alice.talosconfig, 'prod');
  const leaf = path.join(dir, 'leaf.pem');
  const ca = path.join(dir, 'ca.pem');
  fs.writeFileSync(leaf, crt);
  fs.writeFileSync(ca, Buffer.from(cluster.ourPatch.match(/crt: (\S+)/)[1], 'base64'));

  await check('OpenSSL verifies the certificate for clients, strictly, and not for servers', async () => {
    has((await done('openssl', ['verify', '-x509_strict', '-purpose', 'sslclient', '-CAfile', ca, leaf])).text, 'OK');
    const server = await execute('openssl', ['verify', '-x509_strict', '-purpose', 'sslserver', '-CAfile', ca, leaf]);
    if (server.code === 0) throw new Error('it passes for a server');
    const text = (await done('openssl', ['x509', '-in', leaf, '-noout', '-text'])).stdout;
    has(text, 'TLS Web Client Authentication');
    lacks(text, 'TLS Web Server Authentication');
    lacks(text, 'Subject Alternative Name');
  });
  await check('Go\'s crypto/x509 verifies the certificate, and it has the profile', async () => {
    const v = JSON.parse((await done(tool('judge'), [leaf, ca])).stdout);
    const life = (Date.parse(v.not_after) - Date.parse(v.not_before)) / 1000;
    same(v.organizations.filter((o) => o.startsWith('os:')), ['os:reader'], 'roles');
    same(v.organizations.filter((o) => /^(user:alice@example\.test|grant:[0-9a-f-]{36})$/.test(o)).length, 2, 'names');
    same(v.organizations.length, 3, 'organizations');
    same([v.organization_rdns, v.is_ca, v.client_auth_only, v.digital_signature_only, v.alternative_names], [1, false, true, true, 0], 'profile');
    same([v.authority_key_is_cas, v.serial_positive], [true, true], 'identifiers');
    same(v.serial_bits > 64 && v.serial_bits <= 128, true, 'a serial of 128 random bits');
    same(life > 3600 && life <= 3600 + 60, true, `an hour of life and little backdating (${life} s)`);
    same([v.ca_max_path_len_zero, v.ca_cert_sign_only, v.ca_client_auth_only], [true, true, true], 'the CA');
  });
  await check('the key in the talosconfig belongs to the certificate and was made here', async () => {
    const file = path.join(dir, 'leaf.key');
    fs.writeFileSync(file, key.replaceAll('ED25519 PRIVATE KEY', 'PRIVATE KEY'), { mode: 0o600 });
    const [a, b] = await Promise.all([
      done('openssl', ['pkey', '-in', file, '-pubout']), done('openssl', ['x509', '-in', leaf, '-noout', '-pubkey']),
    ]);
    same(a.stdout, b.stdout, 'public keys');
    const kept = fs.readdirSync(broker.dir, { recursive: true, withFileTypes: true }).filter((e) => e.isFile());
    const body = key.split('\n')[1];
    for (const e of kept) {
      lacks(fs.readFileSync(path.join(e.parentPath ?? e.path, e.name), 'latin1'), body, e.name);
    }
  });
}

/** What only the node itself can have said: talosctl prints its own version above, and is content without an answer. */
function answered(node) {
  return new RegExp(`NODE: +${node.address.replaceAll('.', '\\.')}\\s+Tag: +v1\\.13\\.9\\s+SHA: +stub`);
}

function acceptedCA(pem) {
  return `machine:\n  acceptedCAs:\n    - crt: ${Buffer.from(pem).toString('base64')}\n`;
}

function entriesOf(answer) {
  const entries = Array.isArray(answer) ? answer : answer.entries;
  if (!entries?.length) throw new Error(`no entries in ${JSON.stringify(answer)}`);
  return entries;
}
