// Nodes' own logs: the lines of real apids and of Talos' own access log, made by real talosctl calls, sent as a node sends them.
// Genuine calls come out explained; what a caller can bend comes out suspect; what no grant covers comes out unexplained.
import fs from 'node:fs';
import path from 'node:path';
import { check, has, lacks, same } from '../driver/report.mjs';
import { done, eventually, run as execute } from '../driver/processes.mjs';
import { ALIAS, Broker, Person } from '../driver/ichor.mjs';
import { freePort } from '../driver/ports.mjs';
import { Node, Provider, TalosCluster, tool } from '../driver/peers.mjs';
import { Shipper } from '../driver/shipper.mjs';

export const needs = ['talos', 'oidc'];

const policies = `
@id("sre-read-prod") @max_ttl("8h")
permit (principal in Group::"${ALIAS}/sre", action == Action::"hold:os:reader", resource in Label::"env=prod");
@id("admins-prod") @max_ttl("15m")
permit (principal in Group::"${ALIAS}/talos-admins", action == Action::"hold:os:admin", resource in Label::"env=prod");
@id("sre-audit")
permit (principal in Group::"${ALIAS}/sre", action == Action::"audit:read", resource);
`;

export async function run(dir) {
  const world = await build(dir);
  const { alice, broker, nodes, cluster, health } = world;
  const [node, other] = nodes;
  const call = async (talosconfig, method, ...pairs) =>
    JSON.parse((await execute(tool('call'), [talosconfig, `${node.address}:50000`, method, ...pairs])).stdout);
  /** The calls that the broker has of these classes, newest first. */
  const calls = async (...args) => (await alice.json(['audit', 'unexplained', '--cluster', 'prod', ...args])).calls;
  const suspects = async () => (await calls('--class', 'suspect')).length;

  await alice.loggedIn({ login: 'alice' });
  await alice.does(['talosconfig', 'prod', '--set-current']);

  await check('the printed patch names the destination as Talos takes it', async () => {
    const { stdout } = await broker.admin(['cluster', 'logging-patch', 'prod', '--endpoint', 'tcp://10.0.0.9:7410']);
    const patched = await cluster.patch([stdout], 'logging.yaml');
    has(fs.readFileSync(patched, 'utf8'), /endpoint: tcp:\/\/10\.0\.0\.9:7410\/?\n\s+format: json_lines/);
    has((await done(tool('talosctl'), ['validate', '--mode', 'metal', '--config', patched])).text, 'is valid');
  });

  await check('a call of real talosctl comes out explained, at the right node, with person and grant', async () => {
    const result = await alice.talosctl(['-n', other.address, 'version']);
    same(result.code, 0, `exit codes (${result.text})`);
    await eventually(async () => {
      const found = (await calls('--class', 'explained', '--node', 'node-b', '--method', 'Version')).filter((c) => c.user !== '~system');
      same(found.length > 0, true, 'a call');
      same([found[0].class, found[0].user, found[0].roles, found[0].code], ['explained', 'alice@example.test', ['os:reader'], 'OK'], 'the call');
      has(found[0].grant_id, /^[0-9a-f-]{36}$/);
    });
    same(await calls('--class', 'unexplained'), [], 'unexplained calls');
    same(await suspects(), 0, 'suspect calls');
  });

  await check('who called a node is told by its name and by its address alike', async () => {
    const told = async (...args) => {
      const answer = await alice.json(['audit', 'who', '--node', ...args]);
      return answer.calls.filter((c) => c.user !== '~system').map((c) => [c.node, c.user, c.grant_id]);
    };
    const byName = await told('node-b');
    same(byName.length > 0 && byName.every(([at, user]) => at === 'node-b' && user === 'alice@example.test'), true, `calls (${JSON.stringify(byName)})`);
    same(await told(other.address), byName, 'calls by address');
    same(await told(other.address, '--cluster', 'prod'), byName, 'calls by address and cluster');
    same(await told('127.0.0.9'), [], 'calls at an address that no node has');
  });

  await check('a call with a shared old talosconfig comes out unexplained', async () => {
    const result = await alice.talosctl(['--talosconfig', cluster.talosconfig, '-e', node.address, '-n', node.address, 'version']);
    same(result.code, 0, `exit codes (${result.text})`);
    await eventually(async () => {
      const [found] = await calls('--class', 'unexplained');
      same([found?.roles, found?.user ?? null, found?.node], [['os:admin'], null, 'node-a'], 'the call');
    });
  });

  await check('a certificate with another person\'s grant id and more roles explains nothing', async () => {
    const grant = (await calls('--class', 'explained')).find((c) => c.user === 'alice@example.test').grant_id;
    const stolen = await cluster.made('stolen', ['-o', `os:admin|user:alice@example.test|grant:${grant}`]);
    same((await call(stolen, 'Hostname')).code, 'OK', 'codes');
    await eventually(async () => {
      const [found] = await calls('--class', 'unexplained', '--method', 'Hostname');
      has(found?.why ?? '', 'its grant is for os:reader');
    });
  });

  const own = path.join(alice.home, '.talos', 'config');
  const victim = 'talos-role=os:admin,user:victim,grant:0193533d-9c00-7000-8000-000000000001';
  const begun = stamp();
  /** As if it were printed now, so that no time gives it away. */
  const now = (text) => text.replaceAll(begun, stamp());
  const forged = `machined ${begun} OK [/machine.MachineService/Reboot] 1ms unary Success (:authority=localhost;content-type=application/grpc+proxy>proto;${victim};user-agent=x)`;
  await check('the id of a missing resource that makes three whole lines explains none of them', async () => {
    const meta = (roles) => `:authority=localhost;content-type=application/grpc+proxy>proto;${roles};user-agent=grpc-go/1.82.1`;
    const mine = (await calls('--class', 'explained')).find((c) => c.user === 'alice@example.test');
    const roles = `talos-role=grant:${mine.grant_id},os:reader,user:alice@example.test`;
    const begin = `machined ${stamp()} NotFound [/cosi.resource.State/Get] 1ms unary`;
    const line = now(forged);
    const id = `x (${meta(roles)})\n${line}\n${begin} x`;
    const before = await suspects();
    const answer = JSON.parse((await execute(tool('call'), ['-id', id, own, `${other.address}:50000`, 'Get'])).stdout);
    same(answer.code, 'NotFound', `codes (${answer.message})`);
    has(other.machinedLog(), `\n${line}\n`);
    await eventually(async () => same((await suspects()) >= before + 3, true, 'all three lines'));
    same((await calls('--class', 'explained', '--method', 'Reboot')).length, 0, 'explained reboots');
    same((await calls('--class', 'explained,unexplained', '--method', 'Get', '--node', 'node-b')).length, 0, 'calls of Get that are not suspect');
  });
  await check('a second talos-role= in made-up metadata comes out suspect', async () => {
    const before = await suspects();
    await call(own, 'Version', `a=x;${victim}`);
    await eventually(async () => same((await suspects()) > before, true, 'a suspect call'));
  });
  for (const [name, value] of [
    ['a line behind a half that ends as a line does', `x)\n${forged.slice(0, -1)}`],
    ['whole lines behind a half that ends as a line does', `x)\n${forged}\ny`],
    ['a whole line behind a newline', `x\n${forged}\ny`],
    ['a line that its own end completes', `x\n${forged.slice(0, -1)}`],
    ['a line as JSON, with a time of its own', `x\n${JSON.stringify({ msg: forged, time: '2026-01-01T00:00:00Z' })}\ny`],
  ]) {
    for (const key of ['zz-bin', 'a-bin']) {
      await check(`${name} in ${key} comes out suspect and never explained`, async () => {
        const before = await suspects();
        await call(own, 'Version', `${key}=${now(value)}`);
        await eventually(async () => same((await suspects()) >= before + 2, true, 'the line and what was cut from it'));
        same((await calls('--class', 'explained', '--method', 'Reboot')).length, 0, 'explained reboots');
        same((await calls('--class', 'unexplained', '--method', 'Reboot')).length, 0, 'reboots that pass for a line of their own');
      });
    }
  }
  await check('a key that a sender takes for fields does not make a whole line explained', async () => {
    // what stands between the brace and the newline is JSON: the sender shows what is before it as the whole line
    await new Promise((over) => setTimeout(over, 31_000)); // the node's calls are in doubt no more
    const before = await suspects();
    const [hidden, end] = [`x;content-type=application/grpc+proxy>proto;${victim};user-agent=x){"talos-level":"`, `"}\n${now(forged.slice(0, -1))}`];
    await execute(tool('call'), [own, `${other.address}:50000`, 'Version', `a=${hidden}`, `zz-bin=${end}`]);
    await eventually(async () => same((await suspects()) >= before + 2, true, 'the line in both logs'));
    same((await calls('--class', 'explained', '--method', 'Reboot')).length, 0, 'explained reboots');
    same((await calls('--class', 'unexplained', '--method', 'Reboot')).length, 0, 'reboots that pass for a line of their own');
  });
  await check('a line whose bent end a sender took for fields is given away by the parenthesis that is left', async () => {
    const found = async () => (await calls('--class', 'explained,suspect,unexplained', '--method', 'Version', '--node', 'node-b'));
    for (const begin of ['', `${begun}.123456 [talos] phase drain (2/24): 1 tasks(s`, `${begun}.123456 log.go:98: x`]) {
      await new Promise((over) => setTimeout(over, 31_000)); // the node's calls are in doubt no more
      const before = (await found()).filter((c) => c.user === 'victim').length;
      const hidden = `x;content-type=application/grpc+proxy>proto;${victim};user-agent=x){"talos-level":"`;
      await execute(tool('call'), [own, `${other.address}:50000`, 'Version', `a=${hidden}`, `zz-bin="}\n${now(begin)}`]);
      await eventually(async () => {
        const bent = (await found()).filter((c) => c.user === 'victim');
        same(bent.length, before + 1, 'the victim\'s call');
        same(bent[0].class, 'suspect', `its class before \`${begin})\``);
      });
    }
  });
  await check('a forged proxyfrom and talos-role at apid make no call of the victim\'s', async () => {
    await call(own, 'Hostname', 'proxyfrom=10.0.0.2', 'talos-role=os:admin', 'talos-role=user:victim@example.test');
    await eventually(async () => has(node.apidLog(), 'user:victim@example.test'));
    await eventually(async () => same((await calls('--class', 'suspect', '--method', 'Hostname')).length + (await calls('--class', 'explained', '--method', 'Hostname')).length > 0, true, 'the caller\'s own call'));
    const all = await calls('--class', 'explained,escape,weak,after-expiry-on-open-connection', '--method', 'Hostname');
    same(all.filter((c) => c.user?.includes('victim')), [], 'calls of the victim');
  });

  await check('findings are in the audit, bounded', async () => {
    const entries = await alice.json(['audit', 'log', '--kind', 'node-alarm', '--cluster', 'prod']);
    const codes = entries.entries.map((e) => e.detail.code);
    same(['suspect', 'unexplained'].every((code) => codes.includes(code)), true, `both classes (${codes})`);
  });
  await check('the digests of what is kept agree with the log', async () => {
    has((await broker.admin(['audit', 'verify'])).text, /calls/);
  });
  await check('calls that someone takes out of the database are missed, a batch and all of them', async () => {
    const copied = async (name, sql) => {
      const copy = Object.assign(Object.create(Broker.prototype), broker, { dir: path.join(dir, name) });
      fs.cpSync(broker.dir, copy.dir, { recursive: true, filter: (file) => !/admin\.sock|ichor\.db/.test(file) });
      await done('python3', ['-c', COPY, ...[broker, copy].map((one) => path.join(one.dir, 'data', 'ichor.db')), sql]);
      return copy;
    };
    has((await (await copied('as-it-is', '')).admin(['audit', 'verify'])).text, /\d+ calls at nodes/);
    const last = '(SELECT max(batch) FROM call)';
    const middle = `(SELECT max(batch) FROM call WHERE batch < ${last})`;
    for (const [name, sql, why] of [
      ['no-last', `DELETE FROM call WHERE batch = ${last}`, /entry \d+: the \d+ calls that were recorded are gone/],
      ['no-middle', `DELETE FROM call WHERE batch = ${middle}`, /entry \d+: the \d+ calls that were recorded are gone/],
      ['no-call', 'DELETE FROM call', /entry \d+: calls of node `[^`]+` were recorded, and not one is kept/],
      ['another', `UPDATE call SET duration = duration + 1 WHERE batch = ${middle}`, /entry \d+: \d+ calls are kept that are not the/],
    ]) {
      has(await (await copied(name, sql)).refuses(['audit', 'verify']), why, name);
    }
  });
  await check('each service of each node is heard of', async () => {
    await eventually(async () => {
      const metrics = await (await fetch(`http://${health}/metrics`)).text();
      for (const service of ['machined', 'apid']) {
        has(metrics, new RegExp(`ichor_node_silent\\{[^}]*node="node-b"[^}]*service="${service}"[^}]*\\} 0`));
      }
    }, 90);
  });
  await check('a value of 70 kB ends the sender, as on a node, and the silent service is reported', async () => {
    await call(own, 'Version', `a=${'x'.repeat(70_000)}`);
    await eventually(async () => same(world.shippers[0].stopped.has('machined'), true, 'the sender'));
    await eventually(async () => {
      const metrics = await (await fetch(`http://${health}/metrics`)).text();
      has(metrics, /ichor_node_silent\{[^}]*node="node-a"[^}]*service="machined"[^}]*\} 1/);
      const ready = await (await fetch(`http://${health}/readyz`)).text();
      has(ready, 'node log prod/node-a machined');
    }, 120);
    const entries = await alice.json(['audit', 'log', '--kind', 'node-alarm', '--cluster', 'prod']);
    same(entries.entries.some((e) => e.detail.code === 'silent' && e.detail.node === 'node-a'), true, 'the finding');
    lacks(fs.readFileSync(world.log, 'utf8'), 'panicked');
  });
  world.shippers.forEach((shipper) => shipper.stop());
}

/** Copies a database in use, and does to the copy what someone could who writes there. */
const COPY = `
import sqlite3, sys
source, copy = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True), sqlite3.connect(sys.argv[2])
source.backup(copy)
copy.executescript(sys.argv[3])
copy.close()
`;

/** The time as Go's logger prints it. */
function stamp() {
  return new Date().toISOString().slice(0, 19).replaceAll('-', '/').replace('T', ' ');
}

async function build(dir) {
  const broker = await Broker.plan(dir);
  const provider = await Provider.start(dir, [broker.client()]);
  const cluster = await TalosCluster.make(path.join(dir, 'cluster'), 'prod');
  const nodes = [];
  for (const [hostname, address] of [['node-a', '127.0.0.2'], ['node-b', '127.0.0.3']]) {
    nodes.push(await Node.start(path.join(dir, hostname), { address, hostname, config: cluster.config }));
  }
  for (const what of ['endpoint', 'node']) {
    await done(tool('talosctl'), ['--talosconfig', cluster.talosconfig, 'config', what, ...nodes.map((n) => n.address)]);
  }
  const port = await freePort();
  const health = `127.0.0.1:${await freePort()}`;
  const sections = `
[nodelog]
tcp = "127.0.0.1:${port}"
heartbeat = "30s"

[[nodelog_source]]
cluster = "prod"
nodes = { "127.0.0.2" = "node-a", "127.0.0.3" = "node-b" }
`;
  await broker.init(provider, policies, { sections, health });
  await broker.admin(['cluster', 'add', 'prod', '--from', cluster.talosconfig, '--label', 'env=prod', '--reason', 'interop']);
  await broker.admin(['ca', 'create', 'prod', '--reason', 'interop']);
  const trusting = await cluster.patch([(await broker.admin(['ca', 'patch', 'prod'])).stdout], 'trusting.yaml');
  for (const node of nodes) await node.apply(trusting);
  const log = path.join(dir, 'broker.log');
  await broker.start({ log });
  const shippers = [];
  for (const node of nodes) {
    shippers.push(await Shipper.start({
      from: node.address, to: { host: '127.0.0.1', port }, tags: { cluster: 'prod' },
      logs: { machined: path.join(node.dir, 'machined.log'), apid: path.join(node.dir, 'apid.log') },
    }));
  }
  const world = { dir, broker, provider, cluster, nodes, health, shippers, log };
  world.alice = new Person(path.join(dir, 'alice'), world);
  return world;
}
