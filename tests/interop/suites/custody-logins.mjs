// The other ways to log in at a real OpenBao, each by a broker that serves: a JWT out of a file, a client certificate, and an AppRole
// in a namespace. Each has a CA in Transit that stock talosctl works with, and what a login is made of is taken up while the
// broker runs. Part of suite `custody`.
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { check, has, lacks, same } from '../driver/report.mjs';
import { done, eventually } from '../driver/processes.mjs';
import { Broker, Person } from '../driver/ichor.mjs';
import { freePort } from '../driver/ports.mjs';
import { OpenBao } from '../driver/openbao.mjs';
import { fails, names } from './custody-faults.mjs';

/** The servers as the broker knows them, each with the cluster whose CA is there, and where its tokens come from. */
const SERVERS = {
  'by-jwt': { cluster: 'via-jwt', path: 'auth/jwt/login' },
  'by-cert': { cluster: 'via-cert', path: 'auth/cert/login' },
  'in-teams': { cluster: 'via-teams', path: 'auth/approle/login' },
};
const NAMESPACE = 'teams';

export async function logins(world) {
  const own = await build(world);
  const { broker, bao } = own;

  await check('a JWT from a clock ten minutes ahead, another\'s certificate and ids of another namespace are refused at check', async () => {
    own.writeJwt(600);
    await own.writeCertificate('someone-else');
    const config = fs.readFileSync(own.at('config.toml'));
    fs.appendFileSync(own.at('config.toml'), section('outside', bao, own.inTeams));
    const said = await broker.refuses(['check']);
    fs.writeFileSync(own.at('config.toml'), config);
    has(said, /FAIL {2}openbao by-jwt: .*did not log us in: .*(not yet|before|time)/);
    has(said, /FAIL {2}openbao by-cert: .*did not log us in/);
    has(said, /FAIL {2}openbao outside: .*did not log us in/);
    has(said, /ok {4}openbao in-teams/);
  });
  await check('with the right ones ichor-broker check finds all of it well', async () => {
    own.writeJwt(0);
    await own.writeCertificate('ichor-broker');
    for (const [server, { cluster }] of Object.entries(SERVERS)) {
      await broker.admin(['ca', 'create', cluster, '--custody', 'transit', '--server', server, '--token-file',
        await own.operator(server), '--reason', 'interop']);
    }
    const { stdout } = await broker.admin(['check']);
    for (const server of Object.keys(SERVERS)) has(stdout, new RegExp(`ok {4}openbao ${server}`));
  });
  await check('the key of the namespace\'s CA is in the namespace and nowhere else', async () => {
    const asked = async (there) => (await there.call('GET', 'transit/keys/ichor-via-teams', undefined, { token: bao.root })).status;
    same([await asked(bao.within(NAMESPACE)), await asked(bao)], [200, 404], 'the statuses');
  });

  await broker.start({ log: path.join(own.dir, 'broker.log') });
  own.alice = new Person(path.join(own.dir, 'alice'), own);
  await own.alice.loggedIn({ login: 'alice' });
  await check('the node accepts the three CAs by the printed patches', async () => {
    let config = world.cluster.config;
    for (const { cluster } of Object.values(SERVERS)) {
      config = await world.cluster.patchFrom(config, [(await broker.admin(['ca', 'patch', cluster])).stdout], `${cluster}.yaml`);
    }
    has(await world.node.apply(config), '4 accepted');
  });
  for (const [server, { cluster, path: from }] of Object.entries(SERVERS)) {
    await check(`${server}: a broker that serves logged in so, and stock talosctl works with what it issues`, async () => {
      await own.works(cluster);
      const tokens = await own.live(server);
      if (tokens.length === 0) throw new Error(`no token of ${from}`);
      for (const token of tokens) same([...token.policies].sort(), ['token-any', `transit-${cluster}`], 'the policies');
    });
  }

  await check('by-jwt: its token revoked and its JWT not good yet: told, and the others go on', async () => {
    own.writeJwt(600);
    await own.revoke('by-jwt');
    await fails(own, 'via-jwt', 'did not log us in');
    await names(own, ['ca via-jwt', 'openbao by-jwt'], 'did not log us in');
    await own.works('via-cert');
    await own.works('via-teams');
  });
  await check('by-jwt: a new JWT in the file is taken up, without a restart', async () => {
    own.writeJwt(0);
    await own.recovers('via-jwt');
  });
  await check('by-cert: its token revoked and another\'s certificate in the file: told', async () => {
    await own.writeCertificate('someone-else');
    await own.revoke('by-cert');
    await fails(own, 'via-cert', 'did not log us in');
    await names(own, ['ca via-cert', 'openbao by-cert'], 'did not log us in');
  });
  await check('by-cert: a new certificate in the file is taken up, without a restart', async () => {
    await own.writeCertificate('ichor-broker');
    await own.recovers('via-cert');
  });
  await check('in-teams: its token revoked: the broker logs in anew in the namespace, and nobody notices', async () => {
    await own.revoke('in-teams');
    await own.works('via-teams');
    same((await own.live('in-teams')).length, 1, 'tokens of the broker');
  });

  await check('in-teams: tokens of a few seconds are renewed before they end, and followed by another where that ends', async () => {
    await own.leases({ token_ttl: '3s', token_max_ttl: '8s' });
    const seen = new Map();
    try {
      await own.revoke('in-teams');
      // a token that took a refused one's place within this second is not replaced at once
      await eventually(() => own.works('via-teams'), 10);
      const end = Date.now() + 20_000;
      while (Date.now() < end) {
        await own.works('via-teams');
        for (const { accessor, creation_time: made, last_renewal_time: renewed } of await own.live('in-teams')) {
          seen.set(accessor, { lived: Date.now() / 1000 - made, renewed: renewed !== undefined });
        }
        same((await own.readiness()).checks.filter(({ ok }) => !ok), [], 'what is out');
      }
    } finally {
      await own.leases({ token_ttl: '1h', token_max_ttl: '4h' });
      await own.revoke('in-teams');
    }
    await eventually(() => own.works('via-teams'), 10);
    const tokens = [...seen.values()];
    if (tokens.length < 3) throw new Error(`${tokens.length} tokens in twenty seconds that last eight at most`);
    if (!tokens.some(({ lived, renewed }) => renewed && lived > 4)) throw new Error(`none was renewed: ${JSON.stringify(tokens)}`);
  });

  await check('a broker that is stopped ends each of the three tokens', async () => {
    const tokens = async () => Promise.all(Object.keys(SERVERS).map(async (server) => (await own.live(server)).length));
    const before = await tokens();
    await broker.process.end();
    // what a command had lasts its lease
    same((await tokens()).map((left, index) => before[index] - left), [1, 1, 1], 'tokens that ended with the broker');
    const log = fs.readFileSync(path.join(own.dir, 'broker.log'), 'utf8');
    for (const secret of own.secrets) lacks(log, secret, 'the log');
  });
  await broker.process.end();
  await bao.end();
}

/** `[[openbao]]` of that name. */
function section(name, bao, lines) {
  return `\n[[openbao]]\nname = "${name}"\naddress = "${bao.url}"\nca_file = "${bao.ca}"\n${lines}\n`;
}

/** A folder and a server of their own, behind the world's provider, which knows the broker by the world's address. */
async function build(world) {
  const dir = path.join(world.dir, 'logins');
  fs.mkdirSync(dir);
  const broker = Object.assign(await Broker.plan(dir), { port: world.broker.port, url: world.broker.url });
  const own = new Logins();
  const { privateKey, publicKey } = crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' });
  Object.assign(own, {
    dir, broker, privateKey, provider: world.provider, node: world.node, works: world.works, readiness: world.readiness,
    health: `127.0.0.1:${await freePort()}`, bao: await OpenBao.start(path.join(dir, 'openbao')),
  });
  const { bao } = own;
  const teams = bao.within(NAMESPACE);
  await bao.does('POST', `sys/namespaces/${NAMESPACE}`, {});
  const role = async (there, cluster) => {
    const policies = [await there.policy('token.hcl', 'any'), await there.policy('transit.hcl', cluster)];
    return { token_policies: policies, token_no_default_policy: true };
  };
  for (const there of [bao, teams]) await there.mount('transit', 'transit');

  await bao.does('POST', 'sys/auth/jwt', { type: 'jwt' });
  await bao.does('POST', 'auth/jwt/config', { jwt_validation_pubkeys: [publicKey.export({ type: 'spki', format: 'pem' })] });
  await bao.does('POST', 'auth/jwt/role/ichor',
    { ...await role(bao, 'via-jwt'), role_type: 'jwt', user_claim: 'sub', bound_audiences: ['bao'] });
  await bao.does('POST', 'sys/auth/cert', { type: 'cert' });
  await bao.does('POST', 'auth/cert/certs/ichor',
    { ...await role(bao, 'via-cert'), certificate: fs.readFileSync(bao.ca, 'utf8'), allowed_common_names: ['ichor-broker'] });
  await teams.does('POST', 'sys/auth/approle', { type: 'approle' });
  await teams.does('POST', 'auth/approle/role/ichor', await role(teams, 'via-teams'));
  const { data: { role_id: id } } = await teams.does('GET', 'auth/approle/role/ichor/role-id');
  const { data: { secret_id: secret } } = await teams.does('POST', 'auth/approle/role/ichor/secret-id', {});
  own.secrets.push(secret);

  own.inTeams = `auth = "approle"\nrole = "${id}"\nsecret_file = "teams-secret-id"`;
  const sections = [
    section('by-jwt', bao, 'auth = "jwt"\nrole = "ichor"\nsecret_file = "jwt"'),
    section('by-cert', bao, 'auth = "cert"\nrole = "ichor"\ncertificate = "client.pem"\nkey = "client.key"'),
    section('in-teams', bao, `namespace = "${NAMESPACE}"\n${own.inTeams}`),
  ];
  await broker.init(world.provider, world.policies, { sections: sections.join(''), health: own.health });
  fs.writeFileSync(own.at('teams-secret-id'), secret, { mode: 0o600 });
  own.writeJwt(0);
  await own.writeCertificate('ichor-broker');
  for (const { cluster } of Object.values(SERVERS)) {
    await broker.admin(['cluster', 'add', cluster, '--from', world.cluster.talosconfig, '--label', 'env=prod', '--reason', 'interop']);
  }
  return own;
}

/** What the broker logs in with, and what came of it. */
class Logins {
  /** What must never be logged. */
  secrets = [];

  /** A file of the broker's folder. */
  at(file) {
    return path.join(this.broker.dir, file);
  }

  /** A JWT that is good from so many seconds from now, for ten minutes. */
  writeJwt(ahead) {
    const now = Math.floor(Date.now() / 1000) + ahead;
    const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const body = `${part({ alg: 'ES256' })}.${part({ sub: 'ichor', aud: 'bao', iat: now, nbf: now, exp: now + 600 })}`;
    const signature = crypto.sign('sha256', Buffer.from(body), { key: this.privateKey, dsaEncoding: 'ieee-p1363' });
    const jwt = `${body}.${signature.toString('base64url')}`;
    this.secrets.push(jwt);
    fs.writeFileSync(this.at('jwt'), jwt, { mode: 0o600 });
  }

  /** A client certificate of that name, from the CA that the login trusts. */
  async writeCertificate(name) {
    const { bao } = this;
    fs.writeFileSync(this.at('client.ext'), 'extendedKeyUsage=clientAuth\nbasicConstraints=CA:FALSE\n');
    await done('openssl', ['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', `/CN=${name}`,
      '-keyout', this.at('client.key'), '-out', this.at('client.csr')]);
    await done('openssl', ['x509', '-req', '-in', this.at('client.csr'), '-CA', bao.ca, '-CAkey', path.join(bao.dir, 'openbao-ca.key'),
      '-CAcreateserial', '-days', '2', '-extfile', this.at('client.ext'), '-out', this.at('client.pem')]);
  }

  /** The server as it is for whoever logs in so. */
  there(server) {
    return server === 'in-teams' ? this.bao.within(NAMESPACE) : this.bao;
  }

  /** The path of a file with the token of an operator, who makes this server's CA. */
  async operator(server) {
    const there = this.there(server);
    const { cluster } = SERVERS[server];
    const at = path.join(this.dir, `operator-${server}`);
    const token = await there.token(await there.policy('transit-admin.hcl', cluster), await there.policy('token.hcl', 'any'));
    this.secrets.push(token);
    fs.writeFileSync(at, `${token}\n`, { mode: 0o600 });
    return at;
  }

  /** The tokens that came of logins there: {accessor, policies}. */
  async live(server) {
    const there = this.there(server);
    // in a namespace there may be none, which is a 404
    const { json } = await there.call('LIST', 'auth/token/accessors', undefined, { token: this.bao.root });
    const all = [];
    for (const accessor of json.data?.keys ?? []) {
      const answer = await there.call('POST', 'auth/token/lookup-accessor', { accessor }, { token: this.bao.root });
      if (answer.json?.data?.path === SERVERS[server].path) all.push(answer.json.data);
    }
    return all;
  }

  /** How long tokens of the namespace's AppRole last from now on. */
  async leases(lives) {
    await this.there('in-teams').does('POST', 'auth/approle/role/ichor', lives);
  }

  /** Ends every token that came of logins there. */
  async revoke(server) {
    const there = this.there(server);
    for (const { accessor } of await this.live(server)) await there.does('POST', 'auth/token/revoke-accessor', { accessor });
  }

  /** The cluster's certificates come again, and readiness has nothing to say. */
  async recovers(cluster) {
    await eventually(() => this.works(cluster), 30);
    await eventually(async () => same((await this.readiness()).checks.filter(({ ok }) => !ok), [], 'what is out'), 40);
    same(this.broker.process.code, undefined, 'how the broker ended');
  }
}
