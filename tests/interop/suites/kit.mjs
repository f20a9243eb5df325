// A break-glass kit with everything else off: no broker, no provider, no name service, no route but the loopback of a network
// namespace in which one real apid runs. Stock talosctl works with what `ichor kit open` writes, the node's own log names the
// opener, and after the printed patch the node takes it no more; a static kit's likewise. Killed at any file call, an opening leaves a record or nothing.
import fs from 'node:fs';
import path from 'node:path';
import { check, has, lacks, same } from '../driver/report.mjs';
import { Background, done, run as execute } from '../driver/processes.mjs';
import { Broker, program } from '../driver/ichor.mjs';
import { TalosCluster, tool, tlsFor } from '../driver/peers.mjs';

export const needs = ['talos'];

const address = '127.0.0.2';

export async function run(dir) {
  const broker = await Broker.plan(dir);
  const tls = await tlsFor(dir, 'provider');
  const cluster = await TalosCluster.make(path.join(dir, 'cluster'), 'prod');
  await done(tool('talosctl'), ['--talosconfig', cluster.talosconfig, 'config', 'endpoint', address]);
  await done(tool('talosctl'), ['--talosconfig', cluster.talosconfig, 'config', 'node', address]);
  await broker.init({ ca: tls.ca, issuer: 'https://127.0.0.1:1' }, '@id("readers") permit (principal, action == Action::"hold:os:reader", resource);\n');
  await broker.admin(['cluster', 'add', 'prod', '--from', cluster.talosconfig, '--label', 'env=prod', '--reason', 'interop']);

  // holders: two with keys of their own, one with a sheet of paper
  const key = path.join(dir, 'bob-key');
  await done('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key, '-C', 'bob']);
  const sshRecipient = fs.readFileSync(`${key}.pub`, 'utf8').trim();
  const secondKey = path.join(dir, 'eve-key');
  await done('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', secondKey, '-C', 'eve']);
  const second = fs.readFileSync(`${secondKey}.pub`, 'utf8').trim();
  const sheets = fs.mkdtempSync('/dev/shm/ichor-kit-');
  const kits = path.join(dir, 'kits');
  fs.mkdirSync(kits);
  const made = await broker.admin(['kit', 'create', '--cluster', 'prod', '--shares', '2-of-3', '--recipient', `bob=${sshRecipient}`,
    '--paper', 'ada', '--paper', 'eve', '--role', 'os:reader', '--ttl-cap', '30m', '--witness', 'Ada', '--witness', 'Grace',
    '--reason', 'interop', '--output', kits, '--paper-dir', sheets]);
  const file = path.join(kits, 'kit-1.toml');
  const share = path.join(kits, 'kit-1-share-1-bob.age');
  const sheet = fs.readFileSync(path.join(sheets, 'kit-1-share-2-ada.txt'), 'utf8');
  fs.rmSync(sheets, { recursive: true });
  const lines = sheet.split('\n');
  const first = lines.indexOf('ICHOR-KIT1') + 1;
  // as it is typed from the sheet: the rows without their numbers
  const typed = ['ICHOR-KIT1', ...lines.slice(first, first + 6).map((row) => row.trim().replace(/^\d+\s+/, ''))].join('\n');
  const patch = made.stdout.slice(made.stdout.indexOf('machine:\n')).split('\n\n')[0];
  const accepting = await cluster.patch([patch], 'accepting.yaml');

  let node = await Cut.start(path.join(dir, 'node'), accepting);
  const home = path.join(dir, 'home');
  fs.mkdirSync(home);
  const env = { PATH: process.env.PATH, HOME: home, NO_COLOR: '1' };
  const within = (name, args, options = {}) => execute('nsenter', ['-t', String(node.pid), '-n', name, ...args], { cwd: home, env, ...options });
  const open = (talosconfig, more = []) => within(program('ichor'), ['kit', 'open', file, '--share', share, '--identity', key, '--share', '-',
    '--name', 'grace', '--reason', 'INC-42 etcd down', '--talosconfig', talosconfig, ...more], { input: typed });

  await check('the namespace has the node and nothing else: no route, no name service', async () => {
    const routes = await within('ip', ['route']);
    same(routes.stdout.trim(), '', 'routes');
    same((await within('ip', ['-o', 'link'])).stdout.trim().split('\n').length, 1, 'interfaces');
    const names = await within('getent', ['hosts', 'example.com'], { seconds: 30 });
    if (names.code === 0) throw new Error(`a name was resolved: ${names.text}`);
  });

  const talosconfig = path.join(home, 'kit.talosconfig');
  await check('a sealed share and a typed one open the kit, within two seconds of machine time', async () => {
    const before = performance.now();
    const result = await open(talosconfig);
    const took = performance.now() - before;
    same(result.code, 0, `exit codes (${result.text})`);
    has(result.stdout, /grant kit-1-[0-9a-f-]{36}/);
    same(fs.statSync(talosconfig).mode & 0o777, 0o600, 'modes');
    if (took > 2000) throw new Error(`it took ${took} ms`);
    console.log(`  kit open took ${Math.round(took)} ms`);
  });

  const staticConfig = path.join(home, 'static.talosconfig');
  let accepted;
  const withStatic = () => within(tool('talosctl'), ['--talosconfig', staticConfig, '-n', address, 'version'], { seconds: 60 });
  const version = () => within(tool('talosctl'), ['--talosconfig', talosconfig, '-n', address, 'version'], { seconds: 60 });
  await check('stock talosctl works with it, and the node\'s own log names the opener and the grant', async () => {
    const result = await version();
    same(result.code, 0, `exit codes (${result.text})`);
    const [record] = fs.readdirSync(path.join(home, '.local/state/ichor/kit-records'));
    const grant = record.replace('.record', '');
    const line = node.machinedLog().split('\n').filter((l) => l.includes('/machine.MachineService/Version')).at(-1);
    has(line, `talos-role=grant:${grant},os:reader,user:claimed:grace`, 'the line');
  });

  await check('what was opened is brought back to the broker, and an edited record is not believed', async () => {
    const listed = (await within(program('ichor'), ['kit', 'report'])).stdout;
    const [grant] = listed.match(/kit-1-[0-9a-f-]{36}/);
    const record = path.join(dir, 'opening.record');
    fs.writeFileSync(record, (await within(program('ichor'), ['kit', 'report', grant])).stdout);
    const edited = path.join(dir, 'edited.record');
    fs.writeFileSync(edited, fs.readFileSync(record, 'utf8').replace('grace', 'oscar'));
    has(await broker.refuses(['kit', 'report', edited, '--label', 'drill']), 'was changed after it was made');
    has((await broker.admin(['kit', 'report', record, '--label', 'emergency'])).stdout, 'by grace (claimed)');
    has((await broker.admin(['kit', 'list'])).stdout, 'kit 1  prod  used');
  });

  await check('killed at each of its file calls, an opening leaves a record or nothing', async () => {
    const records = path.join(dir, 'records');
    const out = path.join(dir, 'killed.talosconfig');
    let kills = 0;
    let recorded = 0;
    for (const call of ['openat', 'write', 'fsync', 'rename', 'fchmod']) {
      for (let at = 1; at <= 60; at += 1) {
        fs.rmSync(records, { recursive: true, force: true });
        fs.rmSync(out, { force: true });
        const result = await execute('strace', ['-f', '-qq', '-o', '/dev/null', '-e', `trace=${call}`, '-e', `inject=${call}:signal=KILL:when=${at}`,
          program('ichor'), 'kit', 'open', file, '--share', share, '--identity', key, '--share', '-', '--name', 'grace', '--reason', 'killed',
          '--talosconfig', out, '--records', records], { cwd: home, env, input: typed });
        const whole = fs.existsSync(records) && fs.readdirSync(records).some((name) => name.endsWith('.record'));
        if (fs.existsSync(out) && !whole) throw new Error(`killed at ${call} ${at}: a talosconfig without a record`);
        if (whole) {
          recorded += 1;
          for (const name of fs.readdirSync(records).filter((n) => n.endsWith('.record'))) {
            has(fs.readFileSync(path.join(records, name), 'utf8'), /^\{.*\}\nsignature: \S+\n$/, 'a record');
          }
        }
        if (result.code === 0) break;
        kills += 1;
      }
    }
    if (kills < 15 || recorded < 3) throw new Error(`only ${kills} kills, ${recorded} with a record`);
    console.log(`  ${kills} kills`);
  });

  await check('after the printed patch the node takes the certificate no more', async () => {
    await broker.admin(['kit', 'revoke', '1', '--reason', 'interop', '--machine-config', accepting, '--output', kits]);
    const patches = ['remove-1.yaml', 'remove-2.yaml'].map((name) => path.join(kits, name)).filter((name) => fs.existsSync(name));
    const removed = await cluster.patchFrom(accepting, patches.map((name) => `@${name}`), 'removed.yaml');
    await node.stop();
    node = await Cut.start(path.join(dir, 'node-after'), removed);
    const result = await version();
    if (result.code === 0) throw new Error(result.text);
    lacks(result.stdout, 'NODE:');
    has((await broker.admin(['kit', 'list'])).stdout, 'kit 1  prod  revoked');
  });
  await node.stop();

  await check('a static kit: the same certificate for whoever opens it, accepted by the node, which logs the kit', async () => {
    const made = await broker.admin(['kit', 'create', '--static', '--valid-for', '30', '--cluster', 'prod', '--shares', '2-of-2',
      '--recipient', `bob=${sshRecipient}`, '--recipient', `eve=${second}`, '--role', 'os:reader', '--witness', 'Ada', '--witness', 'Grace',
      '--reason', 'interop', '--output', kits]);
    has(made.stdout, 'user:kit-2');
    const patch = (await broker.admin(['kit', 'patch', '2'])).stdout;
    has(made.stdout, patch);
    accepted = await cluster.patch([patch], 'accepting-static.yaml');
    node = await Cut.start(path.join(dir, 'node-static'), accepted);
    const opening = (name, to) => within(program('ichor'), ['kit', 'open', path.join(kits, 'kit-2.toml'), '--share', path.join(kits, 'kit-2-share-1-bob.age'),
      '--share', path.join(kits, 'kit-2-share-2-eve.age'), '--identity', key, '--identity', secondKey, '--name', name, '--reason', 'INC-43', '--talosconfig', to]);
    for (const [name, to] of [['grace', staticConfig], ['joan', path.join(home, 'joan.talosconfig')]]) {
      const opened = await opening(name, to);
      same(opened.code, 0, `exit codes (${opened.text})`);
      has(opened.stdout, 'A static kit: everyone who opens it holds this certificate.');
    }
    same(fs.readFileSync(staticConfig, 'utf8'), fs.readFileSync(path.join(home, 'joan.talosconfig'), 'utf8'), 'talosconfigs');
    const result = await withStatic();
    same(result.code, 0, `exit codes (${result.text})`);
    has(node.machinedLog().split('\n').filter((l) => l.includes('/machine.MachineService/Version')).at(-1), /talos-role=grant:kit-2-[0-9a-f-]{36},os:reader,user:kit-2/);
    const records = fs.readdirSync(path.join(home, '.local/state/ichor/kit-records')).filter((name) => name.startsWith('kit-2-'));
    same(records.length, 2, 'records: each opening has its own');
    const listed = JSON.parse((await within(program('ichor'), ['-o', 'json', 'kit', 'report'])).stdout).records.filter((r) => r.number === 2);
    same(listed.map((r) => r.name).sort().join(), 'grace,joan', 'who opened it');
    has((await broker.admin(['kit', 'report', path.join(home, '.local/state/ichor/kit-records', records[0]), '--label', 'drill'])).stdout, '(claimed), drill');
  });

  await check('after the printed patch the static certificate is accepted no more', async () => {
    await broker.admin(['kit', 'revoke', '2', '--reason', 'interop', '--machine-config', accepted, '--output', kits]);
    const patches = ['remove-1.yaml', 'remove-2.yaml'].map((name) => path.join(kits, name)).filter((name) => fs.existsSync(name));
    const removed = await cluster.patchFrom(accepted, patches.map((name) => `@${name}`), 'removed-static.yaml');
    await node.stop();
    node = await Cut.start(path.join(dir, 'node-static-after'), removed);
    const result = await withStatic();
    if (result.code === 0) throw new Error(result.text);
    lacks(result.stdout, 'NODE:');
    has(await broker.refuses(['kit', 'patch', '2']), 'is revoked');
  });
  await node.stop();
}

/** A node alone in a network namespace of its own. */
class Cut {
  static async start(dir, config) {
    const node = new Cut();
    node.dir = dir;
    fs.mkdirSync(dir, { recursive: true });
    const command = [tool('talosnode'), '-config', config, '-listen', `${address}:50000`, '-hostname', 'node-a', '-apid', tool('machined'), '-logs', dir];
    node.process = new Background('node-a', 'unshare', ['--net', 'sh', '-c', 'ip link set lo up && exec "$0" "$@"', ...command],
      { log: path.join(dir, 'talosnode.log') });
    await node.process.says(/^ready$/m);
    node.pid = node.process.child.pid;
    return node;
  }

  machinedLog() {
    return fs.readFileSync(path.join(this.dir, 'machined.log'), 'utf8');
  }

  stop() {
    return this.process.end();
  }
}
