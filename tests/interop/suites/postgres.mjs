// Several brokers on one real PostgreSQL: one log, one order, whatever befalls a broker or the server.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { check, has, same } from '../driver/report.mjs';
import { done, eventually, run as runs } from '../driver/processes.mjs';
import { ALIAS, Person } from '../driver/ichor.mjs';
import { ask, compare, log } from '../driver/ledger.mjs';
import { Brokers, Postgres } from '../driver/postgres.mjs';
import { ProofKey, keptSession, send, sha256 } from '../driver/proof.mjs';
import { Provider, tlsFor } from '../driver/peers.mjs';
import { backedUp } from './postgres-backup.mjs';
import { damaged, rolledBack } from './postgres-damage.mjs';
import { fencing } from './postgres-fencing.mjs';
import { overTls } from './postgres-tls.mjs';

export const needs = ['oidc', 'postgres'];

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '..', '..', '..');

const policies = `
@id("read") permit (principal in Group::"${ALIAS}/sre", action == Action::"hold:os:reader", resource);
@id("audit") permit (principal in Group::"${ALIAS}/sre", action == Action::"audit:read", resource);
@id("break-the-glass") @approvals("1") @max_ttl("30m") @wait("30m")
permit (principal in Group::"${ALIAS}/sre", action in [Action::"break-glass:request", Action::"hold:os:admin"], resource);
@id("leads-approve") permit (principal in Group::"${ALIAS}/leads", action == Action::"break-glass:approve", resource);
@id("leads-lock") permit (principal in Group::"${ALIAS}/leads", action in [Action::"lock", Action::"unlock"], resource);
`;

export async function run(dir) {
  // a socket's path is short
  const server = await Postgres.start(fs.mkdtempSync('/tmp/ichor-pg-'));
  try {
    await check("the store's conformance suite, and what is Postgres' own, on a real server", () => conformance(server));
    await suite(dir, server);
  } finally {
    await server.stop();
  }
  fs.rmSync(server.dir, { recursive: true, force: true });
}

async function conformance(server) {
  const url = server.url('postgres');
  const args = ['test', '--locked', '-p', 'ichor-broker', '--lib', 'store::postgres::', '--', '--ignored', '--test-threads', '4'];
  const { stdout } = await done('cargo', args, { cwd: root, seconds: 1800, env: { ...process.env, ICHOR_TEST_POSTGRES: url } });
  const [, passed] = stdout.match(/test result: ok\. (\d+) passed; 0 failed; 0 ignored/) ?? [];
  if (!(Number(passed) > 30)) throw new Error(`too few tests ran\n${stdout}`);
  console.log(`        ${passed} tests`);
}

async function suite(dir, server) {
  const world = await build(dir, server);
  const { brokers, alice } = world;
  const { balancer } = brokers;

  await check('a login begun at one broker ends at another, and its session is good at both', async () => {
    balancer.to(0);
    await alice.loggedIn({ login: 'alice' }, { confirm: () => { balancer.to(1); return true; } });
    for (const number of [0, 1, 0, 1]) {
      balancer.to(number);
      same((await ask(world)).result.code, 0, `exit codes at broker ${number}`);
    }
    balancer.to(undefined);
    const answers = await Promise.all(Array.from({ length: 8 }, () => ask(world)));
    const failed = answers.filter((a) => a.result.code !== 0).map((a) => a.result.text);
    same(failed, [], 'what failed with every connection at another broker');
  });

  await check('a session that is ended at one broker is over at the other', async () => {
    const other = new Person(path.join(dir, 'alice-2'), world);
    balancer.to(0);
    await other.loggedIn({ login: 'alice' });
    const session = keptSession(other.home);
    balancer.to(1);
    await other.does(['logout']);
    const answer = await prove(world, 0, session);
    same(answer.status, 401, 'statuses at the other broker');
  });

  await check('a proof is used once, at whichever broker; one made with the nonce of one broker is good at the other', async () => {
    const session = keptSession(alice.home);
    const [a, b] = [await nonce(world, 0), await nonce(world, 1)];
    same(a, b, 'nonces');
    const proof = session.key.proof({ method: 'GET', url: `${brokers.first.url}/v1/session`, token: session.token, nonce: a });
    same((await present(world, 1, session, proof)).status, 200, 'statuses');
    const replayed = await present(world, 0, session, proof);
    same(replayed.status, 401, 'statuses of the replay');
    has(replayed.body, 'used before');
    await brokers.all[0].process.end();
    await brokers.start(0);
    has((await present(world, 0, session, proof)).body, 'used before', 'the answer after a restart');
  });

  await check('one code, used 50 times at once at two brokers, makes one session', async () => {
    const { code, verifier, redirect, key } = await codeFor(world);
    const body = new URLSearchParams({ grant_type: 'authorization_code', client_id: 'ichor', code, code_verifier: verifier, redirect_uri: redirect }).toString();
    const url = `${brokers.first.url}/oauth/token`;
    const fresh = await nonce(world, 0);
    const answers = await Promise.all(Array.from({ length: 50 }, (_, at) => send({
      port: brokers.all[at % 2].port, ca: brokers.first.ca(), url, method: 'POST', body,
      headers: { 'content-type': 'application/x-www-form-urlencoded', dpop: key.proof({ method: 'POST', url, nonce: fresh, body }) },
    })));
    const of = (status) => answers.filter((a) => a.status === status).length;
    same(of(200), 1, `sessions made (${JSON.stringify(answers.map((a) => a.status))})`);
    for (const answer of answers.filter((a) => a.status !== 200)) has(answer.body, /invalid_grant|temporarily_unavailable/);
  });

  await check('asked for at one broker and approved at the other, 50 uses at both at once make one certificate', async () => {
    await world.provider.control(alice.browser, 'people/carol', { groups: ['leads'] });
    world.carol = new Person(path.join(dir, 'carol'), world);
    balancer.to(1);
    await world.carol.loggedIn({ login: 'carol' });
    balancer.to(0);
    const { id } = await alice.json(['break-glass', 'request', 'prod', '--role', 'os:admin', '--reason', 'INC-42 etcd down']);
    balancer.to(1);
    has((await world.carol.does(['break-glass', 'list'])).stdout, id);
    await world.carol.does(['break-glass', 'approve', id, '--yes']);
    balancer.to(undefined);
    const uses = await Promise.all(Array.from({ length: 50 }, (_, at) => (
      alice.ichor(['break-glass', 'use', id, '--talosconfig', path.join(dir, `glass-${at}`)]))));
    const won = uses.filter((use) => use.code === 0);
    same(won.length, 1, `certificates (${uses.map((use) => use.code)})`);
    for (const use of uses.filter((u) => u.code !== 0)) has(use.text, /is used|in a state/);
    same(fs.readdirSync(dir).filter((name) => /^glass-\d+$/.test(name)).length, 1, 'talosconfigs written');
    for (const number of [0, 1]) {
      balancer.to(number);
      const shown = await alice.json(['break-glass', 'show', id]);
      same([shown.state, shown.used, shown.grants.length, shown.suspect], ['used', 1, 1, undefined], `the request at broker ${number}`);
    }
    const grants = await alice.json(['audit', 'log', '--kind', 'grant', '--limit', '500']);
    same((grants.entries ?? grants).filter((entry) => entry.detail.break_glass === id).length, 1, 'grants in the log');
  });

  await check('whoever writes the database gets nothing out of a request that was revoked, at either broker', async () => {
    balancer.to(0);
    const { id } = await alice.json(['break-glass', 'request', 'prod', '--role', 'os:admin', '--reason', 'INC-43']);
    await world.carol.does(['break-glass', 'approve', id, '--yes']);
    await world.carol.does(['break-glass', 'revoke', id]);
    await server.sql('ichor', `UPDATE break_glass SET state = 1, uses = 9 WHERE id = '\\x${id.replaceAll('-', '')}'::bytea RETURNING 1`);
    for (const number of [0, 1]) {
      balancer.to(number);
      has(await alice.fails(['break-glass', 'use', id]), 'was revoked');
      has((await alice.json(['break-glass', 'show', id])).suspect, 'was revoked');
    }
    const refusals = await alice.json(['audit', 'log', '--kind', 'refusal', '--limit', '100']);
    const suspect = (refusals.entries ?? refusals).filter((entry) => entry.detail.break_glass === id && entry.detail.code === 'suspect');
    if (suspect.length < 1) throw new Error('no refusal says that it is suspect');
  });

  await check('a lock that is set at one broker stops the other at once, until it is lifted there', async () => {
    balancer.to(0);
    await world.carol.does(['lock', 'cluster', 'prod', '--reason', 'interop']);
    for (const number of [1, 0]) {
      balancer.to(number);
      const stopped = await ask(world);
      if (stopped.result.code === 0) throw new Error(`broker ${number} issued under a lock`);
      has(stopped.result.text, 'lock');
    }
    await alice.fails(['break-glass', 'request', 'prod', '--role', 'os:admin', '--reason', 'INC-44']);
    balancer.to(1);
    await world.carol.does(['unlock', 'cluster', 'prod', '--reason', 'interop']);
    for (const number of [0, 1]) {
      balancer.to(number);
      same((await ask(world)).result.code, 0, `exit codes at broker ${number}`);
    }
    balancer.to(undefined);
  });

  await check("strangers' requests are counted over both brokers", async () => {
    const wrong = (number) => send({ port: brokers.all[number].port, ca: brokers.first.ca(), url: `${brokers.first.url}/v1/session`, headers: { authorization: 'DPoP nobody', dpop: 'x' } });
    const statuses = [];
    for (let round = 0; round < 100; round += 1) statuses.push((await wrong(round % 2)).status);
    // each broker alone would have let its fifty through: the limit is 60
    const refused = statuses.filter((status) => status === 429).length;
    if (refused < 20) throw new Error(`only ${refused} of 100 were turned away`);
    console.log(`        ${refused} of 100 turned away, 50 at each broker, at a limit of 60 a minute`);
  });

  await check('kill -9 of a broker under load costs only its own requests', async () => {
    balancer.to(undefined);
    let cut = 0;
    let failed = 0;
    for (let round = 0; round < 4; round += 1) {
      const begins = balancer.begins(0, 2);
      const asked = Array.from({ length: 12 }, () => ask(world));
      await begins;
      await pause(30 * round);
      const [open, begun] = [balancer.openTo(0), balancer.begunTo(0)];
      brokers.all[0].process.child.kill('SIGKILL');
      await brokers.all[0].process.exit;
      // a dying process' connections are taken by the kernel until it is gone
      const its = open + balancer.begunTo(0) - begun;
      const answers = await Promise.all(asked);
      const bad = answers.filter((a) => a.result.code !== 0);
      if (bad.length > its) throw new Error(`${bad.length} failed where ${its} were at that broker\n${bad[0].result.text}`);
      cut += its;
      failed += bad.length;
      await brokers.start(0);
    }
    console.log(`        ${cut} connections cut off, ${failed} requests failed, of 48`);
  });

  await check('a broker that is stopped for 30 s in the middle of a batch loses it, and others wait a moment at most', () => fencing(world, server));

  await check('the server crashes: a bounded wait, a typed error, readiness says so, and all recovers by itself', async () => {
    balancer.to(0);
    await server.crash();
    const began = Date.now();
    const during = await ask(world);
    const took = Date.now() - began;
    if (during.result.code === 0) throw new Error('granted without a database');
    has(during.result.text, 'database', 'the answer');
    if (took > 20_000) throw new Error(`the answer took ${took} ms`);
    same(await brokers.ready(0), 503, 'readiness');
    await server.again();
    await eventually(async () => { same(await brokers.ready(0), 200, 'readiness'); }, 30);
    balancer.to(undefined);
    same((await ask(world)).result.code, 0, 'exit codes afterwards');
    console.log(`        the answer took ${took} ms`);
  });

  await check('the server crashes under load: nobody holds a certificate that the log lacks', async () => {
    for (let round = 0; round < 3; round += 1) {
      const asked = Array.from({ length: 10 }, () => ask(world));
      await pause(100 + 200 * round);
      await server.crash();
      await server.again();
      await Promise.all(asked);
      await eventually(async () => { same(await brokers.ready(0), 200, 'readiness'); same(await brokers.ready(1), 200, 'readiness'); }, 30);
    }
    same((await ask(world)).result.code, 0, 'exit codes afterwards');
  });

  await check('every certificate that a client holds is in the log, after its grant, and the log is whole', async () => {
    has((await brokers.first.admin(['audit', 'verify'])).stdout, /^no damage: /);
    const counts = compare(world.attempts, await log(world));
    console.log(`        requests: ${JSON.stringify(counts)}`);
    const names = await server.sql('ichor', "SELECT count(*) FROM body WHERE position('broker-0'::bytea IN body) > 0 UNION ALL SELECT count(*) FROM body WHERE position('broker-1'::bytea IN body) > 0");
    const [first, second] = names.split('\n').map(Number);
    if (!(first > 5 && second > 5)) throw new Error(`entries do not name both brokers: ${names}`);
    const order = await server.sql('ichor', 'SELECT count(*), max(idx) + 1, (SELECT size FROM log_head) FROM leaf');
    same(new Set(order.split('|')).size, 1, `indexes without gaps (${order})`);
  });

  await check('brokers that share an anchor do not take each other for a fork, and it does not go back', () => anchored(world, server));

  await check('a log is copied to a file and to another database, its proofs intact', async () => {
    for (const broker of brokers.all) await broker.process.end();
    const file = path.join(dir, 'copied.db');
    const url = path.join(dir, 'second-url');
    fs.writeFileSync(url, await server.database('second'), { mode: 0o600 });
    const source = `@${path.join(brokers.first.dir, 'database-url')}`;
    const copy = (from, to) => brokers.first.admin(['store', 'copy', '--from', from, '--to', to, '--reason', 'interop'], { folder: false });
    has((await copy(source, `sqlite:${file}`)).stdout, 'read back and compared');
    has((await copy(`sqlite:${file}`, `@${url}`)).stdout, 'read back and compared');
    const again = await runs(path.join(process.env.INTEROP_RELEASE, 'ichor-broker'), ['store', 'copy', '--from', source, '--to', `@${url}`, '--reason', 'interop']);
    if (again.code === 0) throw new Error('a database that is not empty was filled');
    has(again.text, 'not empty');
    fs.copyFileSync(url, path.join(brokers.first.dir, 'database-url'));
    has((await brokers.first.admin(['audit', 'verify'])).stdout, /^no damage: /);
    await brokers.start(0);
    balancer.to(0);
    same((await ask(world)).result.code, 0, 'the old session at the new database');
  });
  // so that its tree has a whole tile
  while (Number(await server.sql('second', 'SELECT size FROM log_head')) < 300) await Promise.all([1, 2, 3, 4].map(() => ask(world)));
  await backedUp(world, server, 'second');
  for (const broker of brokers.all) await broker.process.end();
  await damaged(world, server, 'second');
  await rolledBack(world, server, 'second');
  await overTls(world, server, 'second');
  balancer.close();
}

/** Both brokers with one anchor file and no patience, in turns and at once. */
async function anchored(world, server) {
  const { brokers, dir } = world;
  const file = path.join(dir, 'anchor', 'checkpoint');
  fs.mkdirSync(path.dirname(file));
  const before = brokers.all.map((broker) => fs.readFileSync(path.join(broker.dir, 'config.toml'), 'utf8'));
  const again = async (config) => {
    for (const broker of brokers.all) await broker.process.end();
    for (const [number, broker] of brokers.all.entries()) fs.writeFileSync(path.join(broker.dir, 'config.toml'), config(number));
    await Promise.all([brokers.start(0), brokers.start(1)]);
  };
  const lines = `anchor_file = "${file}"\nanchor_grace = "1s"\n`;
  await again((number) => (/^\[audit\]$/m.test(before[number])
    ? before[number].replace(/^\[audit\]$/m, `[audit]\n${lines}`) : `${before[number]}\n[audit]\n${lines}`));
  const size = () => Number(fs.readFileSync(file, 'utf8').split('\n')[1]);
  let largest = size();
  for (let round = 0; round < 6; round += 1) {
    brokers.balancer.to(round % 3 === 2 ? undefined : round % 3);
    for (const { result } of await Promise.all([ask(world), ask(world), ask(world), ask(world)])) same(result.code, 0, `exit codes (${result.text})`);
    if (size() < largest) throw new Error(`the anchor went back from ${largest} to ${size()}`);
    largest = size();
    for (const number of [0, 1]) same(await brokers.ready(number), 200, `readiness of broker ${number}`);
  }
  const head = Number(await server.sql('ichor', 'SELECT size FROM log_head'));
  await eventually(() => { if (size() < head) throw new Error(`the anchor has ${size()} of ${head} entries`); }, 10);
  brokers.balancer.to(undefined);
  await again((number) => before[number]);
}

async function build(dir, server) {
  const brokers = await Brokers.plan(dir, 2);
  const provider = await Provider.start(dir, [brokers.first.client()]);
  const url = await server.database('ichor');
  await brokers.init(provider, policies, url, { sections: '' });
  const config = path.join(brokers.first.dir, 'config.toml');
  fs.writeFileSync(config, fs.readFileSync(config, 'utf8').replace('[limits]\n', '[limits]\nper_address = 60\n'));
  const { ca } = await tlsFor(dir, 'node');
  const facts = path.join(dir, 'talosconfig');
  fs.writeFileSync(facts, `context: prod\ncontexts:\n  prod:\n    endpoints: [127.0.0.9]\n    ca: ${fs.readFileSync(ca).toString('base64')}\n`);

  await check('without its tables the database is refused, with the command that makes them; two that make them at once make them once', async () => {
    has(await brokers.first.refuses(['serve']), 'store migrate');
    const both = await Promise.all([0, 1].map(() => brokers.first.admin(['store', 'migrate'])));
    same(both.filter((r) => /^took/.test(r.stdout)).length, 1, `who took the steps (${both.map((r) => r.stdout)})`);
  });
  await check('a server that would lose what it answered is refused, by name of the setting; one that nobody copies is warned of', async () => {
    has((await brokers.first.admin(['check'])).stdout, /no synchronous standby/);
    for (const setting of ['fsync', 'full_page_writes']) {
      await setTo(server, setting, 'off');
      for (const args of [['check'], ['serve']]) has(await brokers.first.refuses(args), `${setting}=off`);
      await setTo(server, setting, 'on');
    }
    await setTo(server, 'synchronous_standby_names', "'another'");
    const quiet = (await brokers.first.admin(['check'])).stdout;
    same(/no synchronous standby/.test(quiet), false, 'whether it is still warned of');
    await setTo(server, 'synchronous_standby_names', "''");
  });
  await brokers.first.admin(['cluster', 'add', 'prod', '--from', facts, '--label', 'env=prod', '--reason', 'interop']);
  await brokers.first.admin(['ca', 'create', 'prod', '--reason', 'interop']);
  // the data key that all brokers share is made by the first start
  await brokers.first.start({ log: path.join(dir, 'first.log') });
  await brokers.first.process.end();
  await brokers.spread(dir);
  await Promise.all([brokers.start(0), brokers.start(1)]);
  const world = { dir, broker: brokers.first, brokers, provider, attempts: [] };
  world.alice = new Person(path.join(dir, 'alice'), world);
  return world;
}

/** Changes a setting of the server, and waits until new connections see it. */
async function setTo(server, setting, value) {
  await server.sql('postgres', `ALTER SYSTEM SET ${setting} = ${value}`);
  await server.sql('postgres', 'SELECT pg_reload_conf()');
  const wanted = value.replaceAll("'", '');
  await eventually(async () => same(await server.sql('postgres', `SHOW ${setting}`), wanted, setting));
}

/** A code for a made-up client's key, confirmed by alice. */
async function codeFor({ brokers, alice, provider }) {
  const key = ProofKey.made();
  const verifier = sha256(`${Math.random()}`) + sha256(`${Math.random()}`);
  const redirect = 'http://127.0.0.1:9/callback';
  const query = new URLSearchParams({
    response_type: 'code', client_id: 'ichor', redirect_uri: redirect, state: sha256('a state'),
    code_challenge: sha256(verifier), code_challenge_method: 'S256', dpop_jkt: key.thumbprint(), client_host: 'laptop',
  });
  brokers.balancer.to(0);
  const person = alice.browser;
  try {
    let page = await person.open(`${brokers.first.url}/oauth/authorize?${query}`);
    if (new URL(page.url).origin === provider.issuer) page = await person.submit(page, { login: 'alice' });
    await person.submit(page);
  } catch (error) {
    // nobody listens at the redirect
    if (!/ECONNREFUSED/.test(error.message)) throw error;
  }
  const location = person.visited.at(-1);
  const code = new URL(location).searchParams.get('code');
  if (!code) throw new Error(`no code in ${location}`);
  return { code, verifier, redirect, key };
}

async function nonce({ brokers }, number) {
  const url = `${brokers.first.url}/v1/session`;
  const answer = await send({ port: brokers.all[number].port, ca: brokers.first.ca(), url });
  return answer.nonce;
}

function present({ brokers }, number, session, proof) {
  return send({
    port: brokers.all[number].port, ca: brokers.first.ca(), url: `${brokers.first.url}/v1/session`,
    headers: { authorization: `DPoP ${session.token}`, dpop: proof },
  });
}

async function prove(world, number, session) {
  const url = `${world.brokers.first.url}/v1/session`;
  const proof = session.key.proof({ method: 'GET', url, token: session.token, nonce: await nonce(world, number) });
  return present(world, number, session, proof);
}

function pause(milliseconds) {
  return new Promise((resolve) => { setTimeout(resolve, Math.max(0, milliseconds)); });
}
