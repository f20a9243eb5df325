// The CAs of four clusters at a real OpenBao, with TLS and the policies of deploy/openbao, and stock talosctl before a real apid with
// what comes of them. To the broker they are four clusters; the node behind them is one, which accepts the CA of each.
import fs from 'node:fs';
import path from 'node:path';
import { check, has, lacks, same } from '../driver/report.mjs';
import { done } from '../driver/processes.mjs';
import { ALIAS, Broker, Person } from '../driver/ichor.mjs';
import { freePort } from '../driver/ports.mjs';
import { OpenBao } from '../driver/openbao.mjs';
import { Node, Provider, TalosCluster, tool } from '../driver/peers.mjs';
import { faults } from './custody-faults.mjs';
import { serverKilled } from './custody-kill.mjs';
import { logins } from './custody-logins.mjs';
import { page } from './custody-page.mjs';

export const needs = ['openbao', 'talos', 'oidc'];

const policies = `
@id("sre-read-prod") @max_ttl("8h")
permit (principal in Group::"${ALIAS}/sre", action == Action::"hold:os:reader", resource in Label::"env=prod");
@id("sre-audit")
permit (principal in Group::"${ALIAS}/sre", action == Action::"audit:read", resource);
`;

/** Clusters with CAs that are not Ed25519: how openssl makes the key, and what Transit calls it. */
const KINDS = {
  'of-p256': [['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'], 'ecdsa-p256'],
  'of-p384': [['ec', '-pkeyopt', 'ec_paramgen_curve:P-384'], 'ecdsa-p384'],
  'of-rsa': [['rsa:2048'], 'rsa-2048'],
};

/** Which clusters' policies the broker's token at each server has. The servers are one; each login there may do one thing. */
const SERVERS = {
  kv: [['kv.hcl', 'via-kv']],
  transit: [['transit.hcl', 'via-transit'], ['transit.hcl', 'own'], ...Object.keys(KINDS).map((name) => ['transit.hcl', name])],
  pki: [['pki.hcl', 'via-pki']],
};

export async function run(dir) {
  const world = await build(dir);
  const { alice, broker, bao, cluster, node } = world;

  await check('the broker itself may not make a CA: its policy lets it sign and read', async () => {
    for (const [name, custody] of [['via-kv', 'kv'], ['via-transit', 'transit']]) {
      const said = await broker.refuses(['ca', 'create', name, '--custody', custody, '--server', custody, '--reason', 'interop']);
      has(said, 'does not allow');
      has(said, 'deploy/openbao');
    }
  });
  const sent = world.calls('transit/sign/ichor-via-transit');
  await check('ca create makes the CA in KV and in Transit, with an operator\'s token', async () => {
    for (const custody of ['kv', 'transit']) {
      const token = await world.operator(`${custody}-admin.hcl`, `via-${custody}`);
      const said = await broker.admin(['ca', 'create', `via-${custody}`, '--custody', custody, '--server', custody,
        '--token-file', token, '--reason', 'interop']);
      has(said.stdout, `ichor-broker ca patch via-${custody}`);
    }
    world.selfSigned = world.calls('transit/sign/ichor-via-transit') - sent;
    same(world.selfSigned, 1, 'signatures for the CA itself');
    const { data } = await bao.does('GET', 'transit/keys/ichor-via-transit');
    same([data.type, data.exportable, data.allow_plaintext_backup, data.deletion_allowed], ['ed25519', false, false, false], 'the key');
  });
  await check('custody apply writes the roles of a PKI engine, and ca import takes up its CA', async () => {
    const token = await world.operator('pki-admin.hcl', 'via-pki');
    const at = ['--server', 'pki'];
    has((await broker.admin(['custody', 'plan', 'via-pki', ...at, '--token-file', token])).stdout, 'bao write pki/roles/ichor-via-pki-reader');
    has(await broker.refuses(['custody', 'apply', 'via-pki', ...at, '--reason', 'interop']), 'does not allow');
    has((await broker.admin(['custody', 'apply', 'via-pki', ...at, '--token-file', token, '--reason', 'interop'])).stdout, 'written');
    const said = await broker.admin(['ca', 'import', 'via-pki', '--custody', 'pki', ...at, '--reason', 'interop']);
    has(said.stdout, 'its key stays in the PKI engine pki at pki');
  });
  await check('ca import wraps the cluster\'s own CA from secrets.yaml into Transit, where it cannot be read out', async () => {
    const token = await world.operator('transit-admin.hcl', 'own');
    const said = await broker.admin(['ca', 'import', 'own', '--custody', 'transit', '--server', 'transit', '--from', cluster.secrets,
      '--token-file', token, '--reason', 'interop']);
    has(said.stdout, 'Transit key transit/ichor-own version 1 at transit');
    const { data } = await bao.does('GET', 'transit/keys/ichor-own');
    same([data.type, data.imported_key, data.exportable, data.allow_plaintext_backup], ['ed25519', true, false, false], 'the key');
    const exported = await bao.call('GET', 'transit/export/signing-key/ichor-own', undefined, { token: bao.root });
    same(exported.status, 400, 'the status of an export, with the root token');
  });
  await kinds(world);
  await bounded(world);

  await broker.start({ log: path.join(dir, 'broker.log') });
  await alice.loggedIn({ login: 'alice' });
  await check('the broker logged in with AppRole, and its tokens have the policies of deploy/openbao and no other', async () => {
    same((await world.readiness()).checks.filter(({ ok }) => !ok), [], 'what is out');
    for (const server of Object.keys(SERVERS)) {
      const tokens = await world.tokens(server);
      if (tokens.length === 0) throw new Error(`no token of ${server}`);
      for (const token of tokens) same(token.policies, [`ichor-${server}`], `the policies of ${server}`);
    }
  });
  await check('the node accepts the three new CAs by the printed patches', async () => {
    let config = cluster.config;
    for (const name of ['via-kv', 'via-transit', 'via-pki']) {
      config = await cluster.patchFrom(config, [(await broker.admin(['ca', 'patch', name])).stdout], `${name}.yaml`);
    }
    cluster.trusting = config;
    has(await node.apply(config), '4 accepted');
  });
  for (const name of ['via-kv', 'via-transit', 'own', 'via-pki']) await reaches(world, name);
  await check('P-256, P-384 and RSA keys in Transit sign certificates that openssl takes for their CAs\'', async () => {
    for (const name of Object.keys(KINDS)) {
      const { stdout } = await alice.does(['exec', name, '--', 'sh', '-c', 'cat "$TALOSCONFIG"']);
      const [, text] = /crt: (\S+)/.exec(stdout);
      const at = path.join(dir, `${name}.issued.pem`);
      fs.writeFileSync(at, Buffer.from(text, 'base64'));
      const { stdout: said } = await done('openssl', ['verify', '-CAfile', path.join(dir, `${name}.crt`), '-purpose', 'sslclient', at]);
      has(said, 'OK', name);
    }
  });

  await check('ca probe asks the node with a certificate of each CA, the PKI engine\'s too', async () => {
    for (const name of ['via-kv', 'via-transit', 'own', 'via-pki']) {
      has((await broker.admin(['ca', 'probe', name])).stdout, `${node.address}: accepts it`, name);
    }
  });

  await people(world);
  await replaced(world);
  await rotation(world);
  await serverKilled(world);
  await faults(world);
  await whole(world);
  await parted(world);
  await logins(world);
  await page(world);
}

/** What `ichor-broker check` says of a PKI engine's token that may too much, or that is not told what it may. */
async function bounded({ bao, broker }) {
  const own = ['token.hcl', 'pki.hcl'].map((file) => OpenBao.rules(file, 'via-pki')).join('\n');
  const may = (policy) => bao.does('PUT', 'sys/policies/acl/ichor-pki', { policy });
  const refused = async (policy, sentence) => {
    await may(policy);
    const said = await broker.refuses(['check']);
    has(said.split('\n').find((text) => text.includes(' ca via-pki')) ?? said, sentence, 'what check says of the CA');
  };
  await check('a token that may have the engine sign what is asked is refused at check, whatever role or issuer the rule names', async () => {
    const { data: { issuer_id: issuer } } = await bao.does('GET', 'pki/issuer/default/json');
    for (const at of ['sign-verbatim', 'sign-verbatim/other', `issuer/${issuer}/sign-verbatim`, 'issuer/default/sign-verbatim/other']) {
      await refused(`${own}\npath "pki/${at}" { capabilities = ["update"] }`, `our token may use \`pki/${at}\``);
    }
  });
  await check('a token that is not told its rules is refused at check, with the path that token.hcl has', async () => {
    const rules = 'sys/internal/ui/resultant-acl';
    await refused(own.replace(rules, `${rules}/none`), `does not allow \`${rules}\` to our token, or has no engine mounted there; give its policy what deploy/openbao has`);
  });
  await check('with the policies of deploy/openbao alone it is taken', async () => {
    await may(own);
    has((await broker.admin(['check'])).stdout, /ok {4}ca via-pki/);
  });
}

/** A certificate of this CA works with stock talosctl by its roles, and the node's log says whose call it was. */
async function reaches({ alice, node }, name) {
  await check(`${name}: stock talosctl works with the certificate, by its roles`, async () => {
    await alice.does(['talosconfig', name]);
    const version = await alice.talosctl(['--context', name, '-n', node.address, 'version']);
    same(version.code, 0, `exit codes (${version.text})`);
    has(version.stdout, /SHA: +stub/);
    const reboot = await alice.talosctl(['--context', name, '-n', node.address, 'reboot', '--wait=false']);
    has(reboot.text, 'PermissionDenied');
  });
  const named = name !== 'via-pki';
  await check(`${name}: the node's log names ${named ? 'person and grant' : 'the role alone, as the engine writes it'}`, async () => {
    const line = node.machinedLog().split('\n').filter((l) => l.includes('/machine.MachineService/Version')).at(-1);
    const [entry] = entriesOf(await alice.json(['audit', 'log', '--kind', 'issued', '--cluster', name]));
    has(line, named ? `talos-role=grant:${entry.grant_id},os:reader,user:${entry.user};` : 'talos-role=os:reader;', 'the line');
    has(entry.user, 'alice@example.test', 'the user');
  });
}

/** A role for each person, which the engine's administrators have to allow. */
async function people(world) {
  const { alice, broker, node } = world;
  const take = ['ca', 'import', 'via-pki', '--custody', 'pki', '--server', 'pki', '--replace', '--role-per-person', '--reason', 'interop'];
  await check('a role per person is refused while the policy does not allow it', async () => {
    has(await broker.refuses(take), 'our token may not use `pki/roles/ichor-via-pki-p-');
  });
  await check('with a role per person the node\'s log names them', async () => {
    await world.may('pki', [['pki-person.hcl', 'via-pki']]);
    await broker.admin(take);
    const result = await alice.does(['exec', 'via-pki', '--ttl', '30m', '--', 'talosctl', '-n', node.address, 'version']);
    has(result.stdout, /SHA: +stub/);
    const line = node.machinedLog().split('\n').filter((l) => l.includes('/machine.MachineService/Version')).at(-1);
    has(line, 'talos-role=os:reader,user:alice@example.test;', 'the line');
  });
}

/** The node has another cluster's secrets from now on, as after `talosctl rotate-ca` took the old CA out of the accepted ones. */
async function replaced(world) {
  const { broker, cluster, dir, node } = world;
  await check('an imported CA that the node\'s config has no more is not accepted, and ca probe says what brings the new one', async () => {
    const next = await TalosCluster.make(path.join(dir, 'rotated'), 'prod');
    await node.apply(next.config);
    const said = await broker.refuses(['ca', 'probe', 'own']);
    has(said, `${node.address}: does not accept it`);
    has(said, 'if it was imported and the cluster\'s CA was rotated since, import the new one');
    await node.apply(cluster.trusting);
    has((await broker.admin(['ca', 'probe', 'own'])).stdout, `${node.address}: accepts it`);
  });
}

/** From one Transit key to the next, with the node in between. */
async function rotation(world) {
  const { alice, broker, bao, cluster, node } = world;
  const rotate = (...more) => ['ca', 'rotate', 'via-transit', '--reason', 'interop', ...more];
  const token = await world.operator('transit-admin.hcl', 'via-transit.2');
  await world.may('transit', [...SERVERS.transit, ['transit.hcl', 'via-transit.2']]);
  let printed;
  await check('ca rotate makes a second key, prints the patch, and waits for the node', async () => {
    const said = await broker.refuses(rotate('--token-file', token, '--wait', '0s'));
    has(said, 'does not accept it');
    [, printed] = said.match(/and reads:\n\n([^]*?\n)\n/);
    has(said, 'not every node accepts the new CA yet');
    has((await broker.admin(['ca', 'show', 'via-transit'])).stdout, 'a rotation is under way');
    same((await bao.does('GET', 'transit/keys/ichor-via-transit.2')).data.exportable, false, 'exportable');
  });
  await check('while it waits, the old CA issues', async () => {
    same(await world.signing(() => world.works('via-transit')), [1, 0], 'signatures by the old key and the new one');
  });
  await check('once the node has the patch, ca rotate --continue puts the new CA in force', async () => {
    same(printed, (await broker.admin(['ca', 'patch', 'via-transit', '--next'])).stdout, 'the patch that ca rotate printed');
    cluster.trusting = await cluster.patchFrom(cluster.trusting, [printed], 'next.yaml');
    has(await node.apply(cluster.trusting), '5 accepted');
    const said = (await broker.admin(rotate('--continue'))).stdout;
    has(said, `${node.address}: accepts it`);
    same(await world.signing(() => world.works('via-transit')), [0, 1], 'signatures by the old key and the new one');
  });
  await check('the removal patch takes the old CA out, and what the new one issues still works', async () => {
    const written = await broker.admin(['ca', 'removal-patch', 'via-transit', '--former', '--machine-config', cluster.trusting,
      '--output', cluster.dir]);
    const patches = [...written.stdout.matchAll(/--patch @(\S+?\.yaml)/g)].map((match) => `@${path.resolve(cluster.dir, match[1])}`);
    cluster.trusting = await cluster.patchFrom(cluster.trusting, patches, 'removed.yaml');
    has(await node.apply(cluster.trusting), '4 accepted');
    await world.works('via-transit');
    const old = await alice.talosctl(['--context', 'via-transit', '-n', node.address, 'version']);
    lacks(old.stdout, /SHA: +stub/, 'what a certificate of the old CA gets');
    has((await broker.admin(['ca', 'probe', 'via-transit'])).stdout, 'accepts it');
  });
}

/** After all of it: nobody holds a certificate that the log does not have. */
async function whole(world) {
  const { alice, broker } = world;
  await check('every signature that OpenBao made is of a recorded grant, and the log is whole', async () => {
    const keys = ['via-transit', 'via-transit.2', 'via-transit.3', 'own'];
    const made = keys.map((key) => world.calls(`transit/sign/ichor-${key}`)).reduce((sum, calls) => sum + calls, 0);
    const count = { grant: 0, issued: 0, 'issue-failed': 0 };
    for (const kind of Object.keys(count)) {
      for (const name of ['via-transit', 'own']) {
        const answer = await alice.json(['audit', 'log', '--all', '--kind', kind, '--cluster', name]);
        count[kind] += (Array.isArray(answer) ? answer : answer.entries).length;
      }
    }
    same(count.grant, count.issued + count['issue-failed'], 'how many grants have an outcome');
    const certificates = made - world.selfSigned - 2; // the CAs of the two rotations signed themselves, too
    if (certificates < count.issued || certificates > count.grant) {
      throw new Error(`OpenBao made ${certificates} signatures for ${JSON.stringify(count)}`);
    }
    has((await broker.admin(['audit', 'verify'])).stdout, 'no damage');
  });
  await check('what the broker logged holds no token and no secret id', () => {
    const log = fs.readFileSync(path.join(world.dir, 'broker.log'), 'utf8');
    for (const secret of world.secrets) lacks(log, secret, 'the log');
    lacks(log, /\b[hs]v?[bsr]\.[A-Za-z0-9]{20,}/, 'the log');
    lacks(log, 'panicked', 'the log');
  });
}

/** CAs as somebody else made them, with keys of other kinds. */
async function kinds(world) {
  const { broker, bao, dir } = world;
  await check('ca import wraps P-256, P-384 and RSA keys into Transit, too', async () => {
    for (const [name, [key, type]] of Object.entries(KINDS)) {
      const token = await world.operator('transit-admin.hcl', name);
      const [crt, pem] = [path.join(dir, `${name}.crt`), path.join(dir, `${name}.key`)];
      await done('openssl', ['req', '-x509', '-newkey', ...key, '-nodes', '-subj', '/O=talos', '-days', '3650',
        '-addext', 'keyUsage=critical,digitalSignature,keyCertSign', '-keyout', pem, '-out', crt]);
      const said = await broker.admin(['ca', 'import', name, '--custody', 'transit', '--server', 'transit', '--from', crt,
        '--from', pem, '--token-file', token, '--reason', 'interop']);
      has(said.stdout, `Transit key transit/ichor-${name} version 1 at transit`);
      const { data } = await bao.does('GET', `transit/keys/ichor-${name}`);
      same([data.type, data.imported_key, data.exportable], [type, true, false], 'the key');
    }
  });
}

/** The broker is told to stop. */
async function parted(world) {
  await check('a broker that is stopped leaves no token behind', async () => {
    const tokens = async () => (await Promise.all(Object.keys(SERVERS).map((server) => world.tokens(server)))).flat();
    const before = await tokens();
    await world.broker.process.end();
    const after = await tokens();
    // each server's token in force is gone; one that a command had, or a fault replaced, lasts its lease
    same(before.length - after.length, Object.keys(SERVERS).length, 'tokens that ended with the broker');
  });
}

/** OpenBao with three engines and an AppRole for each, one node, a provider, a broker that knows all of them. */
async function build(dir) {
  const broker = await Broker.plan(dir);
  const [provider, cluster, bao] = await Promise.all([
    Provider.start(dir, [broker.client()]),
    TalosCluster.make(path.join(dir, 'cluster'), 'prod'),
    OpenBao.start(path.join(dir, 'openbao'), { storage: 'raft' }),
  ]);
  const node = await Node.start(path.join(dir, 'node-a'), { address: '127.0.0.2', hostname: 'node-a', config: cluster.config });
  await done(tool('talosctl'), ['--talosconfig', cluster.talosconfig, 'config', 'endpoint', node.address]);
  await done(tool('talosctl'), ['--talosconfig', cluster.talosconfig, 'config', 'node', node.address]);

  const world = new World({ dir, broker, provider, cluster, bao, node, policies });
  const sections = await world.furnish();
  await broker.init(provider, policies, { sections, health: world.health });
  for (const [name, secret] of world.written) fs.writeFileSync(path.join(broker.dir, name), secret, { mode: 0o600 });
  for (const name of ['via-kv', 'via-transit', 'via-pki', 'own', ...Object.keys(KINDS)]) {
    await broker.admin(['cluster', 'add', name, '--from', cluster.talosconfig, '--label', 'env=prod', '--reason', 'interop']);
  }
  world.alice = new Person(path.join(dir, 'alice'), world);
  return world;
}

class World {
  constructor(parts) {
    Object.assign(this, parts);
    /** Files of the broker's folder, and what must never be logged. */
    this.written = new Map();
    this.secrets = [];
    this.rules = {};
  }

  /** Engines, policies and roles; returns the broker's `[[openbao]]`. */
  async furnish() {
    const { bao } = this;
    this.health = `127.0.0.1:${await freePort()}`;
    await bao.mount('secret', 'kv', { version: '2' });
    await bao.mount('transit', 'transit');
    await bao.mount('pki', 'pki');
    await bao.does('POST', 'sys/mounts/pki/tune', { max_lease_ttl: '87600h' });
    await bao.does('POST', 'pki/root/generate/internal', { key_type: 'ed25519', common_name: 'ichor via-pki', ttl: '87600h' });
    await bao.does('POST', 'sys/auth/approle', { type: 'approle' });
    const sections = [];
    for (const [server, files] of Object.entries(SERVERS)) {
      await this.may(server, files);
      await bao.does('POST', `auth/approle/role/${server}`, {
        token_policies: [`ichor-${server}`], token_no_default_policy: true, token_ttl: '1h', token_max_ttl: '4h',
      });
      const { data: { role_id: role } } = await bao.does('GET', `auth/approle/role/${server}/role-id`);
      const { data: { secret_id: secret } } = await bao.does('POST', `auth/approle/role/${server}/secret-id`, {});
      this.written.set(`${server}-secret-id`, secret);
      this.secrets.push(secret);
      sections.push(`[[openbao]]\nname = "${server}"\naddress = "${bao.url}"\nca_file = "${bao.ca}"\nauth = "approle"\n`
        + `role = "${role}"\nsecret_file = "${server}-secret-id"\n`);
    }
    return sections.join('\n');
  }

  /** Sets what the broker's token at `server` may: these files of deploy/openbao, each for its cluster, and its own renewal. */
  async may(server, files) {
    if (files.length > 0) this.rules[server] = files;
    const policy = [['token.hcl', ''], ...files].map(([file, cluster]) => OpenBao.rules(file, cluster)).join('\n');
    await this.bao.does('PUT', `sys/policies/acl/ichor-${server}`, { policy });
  }

  /** The path of a file with an operator's token, which has this one policy. */
  async operator(file, cluster) {
    const token = await this.bao.token(await this.bao.policy(file, cluster), await this.bao.policy('token.hcl', 'any'));
    const at = path.join(this.dir, `operator-${file}-${cluster}`);
    fs.writeFileSync(at, `${token}\n`, { mode: 0o600 });
    this.secrets.push(token);
    return at;
  }

  /** What `/readyz` says. */
  async readiness() {
    return (await fetch(`http://${this.health}/readyz`)).json();
  }

  /** The broker's tokens of one server: {accessor, policies}. */
  async tokens(server) {
    const { data: { keys } } = await this.bao.does('LIST', 'auth/token/accessors');
    const all = [];
    for (const accessor of keys) {
      const answer = await this.bao.call('POST', 'auth/token/lookup-accessor', { accessor }, { token: this.bao.root });
      if (answer.json?.data?.path === 'auth/approle/login') all.push(answer.json.data);
    }
    return all.filter(({ policies: names }) => names.includes(`ichor-${server}`));
  }

  /** How many signatures OpenBao's own audit log has for a path. */
  calls(at) {
    const lines = fs.readFileSync(this.bao.auditLog, 'utf8').split('\n').filter(Boolean);
    let made = 0;
    for (const line of lines) {
      const { type, request, response, error } = JSON.parse(line);
      if (type !== 'response' || request.path !== at || error) continue;
      made += response?.data?.batch_results?.length ?? 1;
    }
    return made;
  }

  /** How many signatures the keys of via-transit make meanwhile. */
  async signing(body) {
    const keys = ['transit/sign/ichor-via-transit', 'transit/sign/ichor-via-transit.2'];
    const before = keys.map((at) => this.calls(at));
    await body();
    return keys.map((at, index) => this.calls(at) - before[index]);
  }

  /** A new certificate works at the node. */
  async works(name) {
    const { alice, node } = this;
    const result = await alice.does(['exec', name, '--ttl', '30m', '--', 'talosctl', '-n', node.address, 'version']);
    has(result.stdout, /SHA: +stub/);
  }
}

function entriesOf(answer) {
  const entries = Array.isArray(answer) ? answer : answer.entries;
  if (!entries?.length) throw new Error(`no entries in ${JSON.stringify(answer)}`);
  return entries;
}
