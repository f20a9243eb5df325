// Break-glass on real parts: a request, a step up at the provider, an approval, stock talosctl on a real apid, the node's own
// log, the review. What people do is what they would type; how many commands and seconds it takes is printed.
import fs from 'node:fs';
import path from 'node:path';
import { check, has, lacks, same } from '../driver/report.mjs';
import { Background, done, eventually } from '../driver/processes.mjs';
import { ALIAS, Broker, Person, freePort, program } from '../driver/ichor.mjs';
import { Clock } from '../driver/clock.mjs';
import { Node, Provider, TalosCluster, tool } from '../driver/peers.mjs';
import { Shipper } from '../driver/shipper.mjs';

export const needs = ['talos', 'oidc'];

/** More than the quarter of an hour that a login of an approver counts. */
const OLD = 20 * 60;

const policies = `
@id("read") @max_ttl("8h")
permit (principal in Group::"${ALIAS}/sre", action == Action::"hold:os:reader", resource);
@id("break-the-glass") @approvals("1") @max_ttl("30m") @wait("30m")
permit (principal in Group::"${ALIAS}/sre", action in [Action::"break-glass:request", Action::"hold:os:admin"], resource in Label::"env=prod");
@id("leads-approve") @hint("sign in again with your second factor")
permit (principal in Group::"${ALIAS}/leads", action == Action::"break-glass:approve", resource)
when { context has acr && context.acr == "urn:ichor:mfa" && context has auth_age && context.auth_age < 900 };
@id("leads-read-the-audit")
permit (principal in Group::"${ALIAS}/leads", action == Action::"audit:read", resource);
`;

export async function run(dir) {
  const world = await build(dir);
  const { alice, bob, carol, provider, clock, nodes: [node, other] } = world;
  for (const name of ['bob', 'carol']) await provider.control(alice.browser, `people/${name}`, { groups: ['leads'] });
  const glass = (who, ...args) => who.does(['break-glass', ...args]);
  const refused = (who, ...args) => who.fails(['break-glass', ...args]);
  const asks = ['prod', '--role', 'os:admin', '--reason', 'INC-42 etcd down'];
  let id;

  await check('from nothing to talosctl: two people, at most seven commands', async () => {
    const began = Date.now();
    let commands = 0;
    const typed = (what) => { commands += 1; return what; };
    await typed(alice.loggedIn({ login: 'alice' }));
    const waiting = typed(new Background('ichor break-glass request', program('ichor'),
      ['break-glass', 'request', ...asks, '--node', node.hostname, '--wait'], { env: alice.env, cwd: alice.home }));
    [, id] = await waiting.says(/ichor break-glass approve ([0-9a-f-]{36})/);
    await typed(carol.loggedIn({ login: 'carol', acr: 'urn:ichor:mfa' }));
    const shown = await typed(glass(carol, 'list'));
    has(shown.stdout, id);
    await typed(glass(carol, 'approve', id, '--yes'));
    same(await waiting.exit, 0, `exit codes (${waiting.text})`);
    const result = await typed(alice.talosctl(['--context', 'prod-break-glass', '-n', node.address, 'reboot', '--wait=false']));
    same(result.code, 0, `exit codes (${result.text})`);
    if (commands > 7) throw new Error(`${commands} commands`);
    console.log(`        ${commands} commands of both together, ${((Date.now() - began) / 1000).toFixed(1)} s of machine time`);
  });

  await check("the approver saw who, from where, why, what, and that nodes are not enforced", async () => {
    const { stdout } = await glass(carol, 'show', id);
    for (const part of ['alice@example.test', '127.0.0.1', 'INC-42 etcd down', 'os:admin', node.hostname, 'not enforced']) has(stdout, part);
  });

  await check("the node's own log names the person and a grant that the audit ties to the request", async () => {
    const line = node.machinedLog().split('\n').filter((l) => l.includes('/machine.MachineService/Reboot')).at(-1);
    const [, grant] = line.match(/talos-role=grant:([0-9a-f-]{36}),os:admin,user:alice@example\.test;/) ?? [];
    if (!grant) throw new Error(line);
    const { stdout } = await carol.does(['audit', 'log', '--kind', 'grant', '-o', 'json']);
    for (const part of [grant, 'carol@example.test', id]) has(stdout, part);
  });

  await check('one request is one certificate', async () => {
    has(await refused(alice, 'use', id), /used|state/);
  });

  await check('the report has the call from the node\'s log, and flags one at a node that was not named', async () => {
    const result = await alice.talosctl(['--context', 'prod-break-glass', '-e', other.address, '-n', other.address, 'version']);
    same(result.code, 0, `exit codes (${result.text})`);
    await eventually(async () => {
      const { stdout } = await glass(carol, 'report', id);
      for (const part of ['Reboot', node.hostname, 'Version', other.hostname]) has(stdout, part);
      has(stdout, /not named|elsewhere/);
    });
  });

  await check('somebody else reviews it', async () => {
    const label = ['--as', 'drill', '--note', 'a scripted trial'];
    await refused(alice, 'review', id, ...label);
    await glass(carol, 'review', id, ...label);
    has((await glass(carol, 'show', id)).stdout, 'reviewed');
  });

  await check('nobody approves their own request, whatever their groups', async () => {
    await provider.control(alice.browser, 'people/alice', { groups: ['sre', 'leads'] });
    await alice.loggedIn({ login: 'alice', acr: 'urn:ichor:mfa' }, { flags: ['--fresh'] });
    const own = JSON.parse((await alice.does(['break-glass', 'request', ...asks, '-o', 'json'])).stdout).id;
    has(await refused(alice, 'approve', own, '--yes'), /own request/);
    await glass(alice, 'cancel', own);
  });

  await check('an approval needs a step up at the provider: the acr, and a login that is fresh', async () => {
    await bob.loggedIn({ login: 'bob', acr: 'urn:ichor:pwd' });
    const next = JSON.parse((await alice.does(['break-glass', 'request', ...asks, '-o', 'json'])).stdout).id;
    has(await refused(bob, 'approve', next, '--yes'), /second factor|no break-glass request/);
    await bob.loggedIn({ login: 'bob', acr: 'urn:ichor:mfa' }, { flags: ['--fresh'] });
    clock.forward(OLD);
    const text = await refused(bob, 'approve', next, '--yes');
    lacks(text, 'panicked');
    has((await bob.does(['status'])).text, 'bob@example.test');
    await bob.loggedIn({ login: 'bob', acr: 'urn:ichor:mfa' }, { flags: ['--fresh'] });
    await glass(bob, 'approve', next, '--yes');
    await glass(alice, 'use', next);
    const story = (await carol.does(['audit', 'log', '--kind', 'break-glass-approval', '-o', 'json'])).stdout;
    has(story, 'bob@example.test');
  });

  await check('a request of which policies change meanwhile needs new approvals', async () => {
    const next = JSON.parse((await alice.does(['break-glass', 'request', ...asks, '-o', 'json'])).stdout).id;
    const file = path.join(world.broker.dir, 'policies', 'interop.cedar');
    fs.appendFileSync(file, '\n@id("nobody-wipes") forbid (principal, action == Action::"hold:os:etcd:backup", resource);\n');
    await world.broker.admin(['reload']);
    await glass(bob, 'approve', next, '--yes').then(() => { throw new Error('approved'); }, () => {});
    has(await refused(alice, 'use', next), /approv|polic|state/);
  });
}

/** Provider, two nodes that send their logs, a broker, three people. */
async function build(dir) {
  const clock = new Clock(dir);
  const broker = await Broker.plan(dir);
  const provider = await Provider.start(dir, [broker.client()], { clock });
  const cluster = await TalosCluster.make(path.join(dir, 'cluster'), 'prod');
  const nodes = [];
  for (const [hostname, address] of [['node-a', '127.0.0.2'], ['node-b', '127.0.0.3']]) {
    nodes.push(await Node.start(path.join(dir, hostname), { address, hostname, config: cluster.config }));
  }
  for (const what of ['endpoint', 'node']) {
    await done(tool('talosctl'), ['--talosconfig', cluster.talosconfig, 'config', what, ...nodes.map((n) => n.address)]);
  }
  const port = await freePort();
  const sections = `
[nodelog]
tcp = "127.0.0.1:${port}"

[[nodelog_source]]
cluster = "prod"
nodes = { "127.0.0.2" = "node-a", "127.0.0.3" = "node-b" }
`;
  await broker.init(provider, policies, { sections });
  await broker.admin(['cluster', 'add', 'prod', '--from', cluster.talosconfig, '--label', 'env=prod', '--reason', 'interop']);
  await broker.admin(['ca', 'create', 'prod', '--reason', 'interop']);
  const trusting = await cluster.patch([(await broker.admin(['ca', 'patch', 'prod'])).stdout], 'trusting.yaml');
  for (const node of nodes) await node.apply(trusting);
  await broker.start({ clock, log: path.join(dir, 'broker.log') });
  for (const node of nodes) {
    await Shipper.start({
      from: node.address, to: { host: '127.0.0.1', port }, tags: { cluster: 'prod' },
      logs: { machined: path.join(node.dir, 'machined.log'), apid: path.join(node.dir, 'apid.log') },
    });
  }
  const world = { dir, clock, broker, provider, cluster, nodes };
  for (const name of ['alice', 'bob', 'carol']) world[name] = new Person(path.join(dir, name), world);
  return world;
}
