// Break-glass on real parts: a request, a step up at the provider, an approval, stock talosctl on a real apid, the node's own
// log, the review. What people do is what they would type; how many commands that is, and how long it takes people, is held to a bound.
import fs from 'node:fs';
import path from 'node:path';
import { check, has, lacks, same } from '../driver/report.mjs';
import { Background, done, eventually } from '../driver/processes.mjs';
import { ALIAS, Broker, Person, program } from '../driver/ichor.mjs';
import { freePort } from '../driver/ports.mjs';
import { Clock } from '../driver/clock.mjs';
import { Node, Provider, TalosCluster, tool } from '../driver/peers.mjs';
import { Shipper } from '../driver/shipper.mjs';

export const needs = ['talos', 'oidc'];

/** More than the quarter of an hour that a login of an approver counts. */
const OLD = 20 * 60;

/** How fast someone types who does so all day (60 words a minute), and how long it takes to copy and paste, and to read a page. */
const TYPED_A_SECOND = 5;
const TO_PASTE = 2;
const TO_READ = 4;
/** From the request to a working talosctl: so many seconds of people's time, of all of them together. */
const MOST_HUMAN = 60;
const MOST_COMMANDS = 7;

/** What a trial costs people. */
class Effort {
  commands = 0;
  seconds = 0;

  /** A command line that is typed, but for what is pasted into it; the line. */
  command(words, { pasted = [] } = {}) {
    this.commands += 1;
    const line = words.map((word) => (/[^\w@%+=:,./-]/.test(word) ? `"${word}"` : word)).join(' ');
    const typed = pasted.reduce((rest, text) => {
      has(rest, text);
      return rest.replace(text, '');
    }, line);
    this.seconds += TO_PASTE * pasted.length;
    this.types(typed);
    return line;
  }

  types(text) { this.seconds += text.length / TYPED_A_SECOND; }

  reads(pages) { this.seconds += TO_READ * pages; }
}

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

  await check('from a request to talosctl: two people, under a minute of their time, at most seven commands', async () => {
    const effort = new Effort();
    effort.command(['ichor', 'login']);
    await alice.loggedIn({ login: 'alice' });
    // whoever is on call is logged in; what is held to a minute begins here
    effort.seconds = 0;
    const began = Date.now();
    const words = ['break-glass', 'request', ...asks, '--node', node.hostname, '--wait'];
    effort.command(['ichor', ...words]);
    const waiting = new Background('ichor break-glass request', program('ichor'), words, { env: alice.env, cwd: alice.home });
    [, id] = await waiting.says(/ichor break-glass approve ([0-9a-f-]{36})/);
    // she sends the line to carol, who logs in with her second factor and reads what she is to approve
    effort.seconds += TO_PASTE;
    effort.command(['ichor', 'login']);
    effort.types('carol' + '123456');
    effort.reads(2);
    await carol.loggedIn({ login: 'carol', acr: 'urn:ichor:mfa' });
    const does = (args, pasted) => {
      effort.command(['ichor', 'break-glass', ...args], { pasted: [pasted] });
      return glass(carol, ...args);
    };
    has((await does(['show', id], id)).stdout, 'INC-42 etcd down');
    effort.reads(1);
    await does(['approve', id, '--yes'], `ichor break-glass approve ${id}`);
    same(await waiting.exit, 0, `exit codes (${waiting.text})`);
    const printed = 'talosctl --context prod-break-glass';
    has(waiting.text, printed);
    const touch = ['--context', 'prod-break-glass', '-n', node.address, 'reboot', '--wait=false'];
    effort.command(['talosctl', ...touch], { pasted: [printed] });
    const result = await alice.talosctl(touch);
    same(result.code, 0, `exit codes (${result.text})`);
    const { commands, seconds } = effort;
    console.log(`        ${commands} commands of both together; ${seconds.toFixed(1)} s of people's time, ${((Date.now() - began) / 1000).toFixed(1)} s of machines'`);
    if (commands > MOST_COMMANDS) throw new Error(`${commands} commands`);
    if (seconds > MOST_HUMAN) throw new Error(`${seconds} s of people's time`);
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

  await check('life, ticket and comment are told as they were typed, and a list finds a request by its state', async () => {
    const ticket = 'https://tickets.example.com/browse/INC-42';
    const asked = JSON.parse((await alice.does(['break-glass', 'request', ...asks, '--ttl', '5m', '--ticket', ticket, '-o', 'json'])).stdout);
    const contents = JSON.parse(asked.contents);
    same(contents.ttl, 300, 'seconds of life');
    same(contents.ticket, ticket, 'tickets');
    has((await glass(carol, 'show', asked.id)).stdout, ticket);
    await glass(carol, 'deny', asked.id, '--comment', 'not during the freeze');
    has((await glass(alice, 'show', asked.id)).stdout, 'not during the freeze');
    for (const [who, ...more] of [[carol], [alice, '--mine'], [carol, '--cluster', 'prod']]) {
      const { stdout } = await glass(who, 'list', '--state', 'denied', ...more);
      has(stdout, asked.id);
      lacks(stdout, id);
    }
    has((await glass(alice, 'list', '--state', 'reviewed')).stdout, id);
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
    has(await refused(bob, 'approve', next, '--yes'), /second factor/);
    await bob.loggedIn({ login: 'bob', acr: 'urn:ichor:mfa' }, { flags: ['--fresh'] });
    clock.forward(OLD);
    const text = await refused(bob, 'approve', next, '--yes');
    has(text, 'ichor login --fresh');
    lacks(text, 'no break-glass request');
    has((await bob.does(['status'])).text, 'bob@example.test');
    await bob.loggedIn({ login: 'bob', acr: 'urn:ichor:mfa' }, { flags: ['--fresh'] });
    await glass(bob, 'approve', next, '--yes');
    await glass(alice, 'use', next);
    const story = (await carol.does(['audit', 'log', '--kind', 'break-glass-approval', '-o', 'json'])).stdout;
    has(story, 'bob@example.test');
  });

  await check('a request of which policies change meanwhile needs new approvals', async () => {
    const ask = async () => JSON.parse((await alice.does(['break-glass', 'request', ...asks, '-o', 'json'])).stdout).id;
    const [next, agreed] = [await ask(), await ask()];
    await bob.loggedIn({ login: 'bob', acr: 'urn:ichor:mfa' }, { flags: ['--fresh'] });
    await glass(bob, 'approve', agreed, '--yes');
    const file = path.join(world.broker.dir, 'policies', 'interop.cedar');
    fs.appendFileSync(file, '\n@id("nobody-wipes") forbid (principal, action == Action::"hold:os:etcd:backup", resource);\n');
    await world.broker.admin(['reload']);
    has(await refused(bob, 'approve', next, '--yes'), 'the policies have changed');
    has(await refused(alice, 'use', agreed), 'the policies have changed');
    await glass(bob, 'deny', next, '--yes');
    await glass(bob, 'revoke', agreed);
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
