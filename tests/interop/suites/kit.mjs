// A break-glass kit with everything else off: no broker, no provider, no name service, no route but the loopback of a network
// namespace in which one real apid runs. Stock talosctl works with what `ichor kit open` writes, the node's own log names the
// opener, and after the printed patch the node takes no kit any more; a static kit's likewise. Killed at any file call, an opening leaves a
// record or nothing. A kit of paper alone is typed at a terminal, row by row; a drill asks the real node.
import fs from 'node:fs';
import path from 'node:path';
import { check, has, lacks, same } from '../driver/report.mjs';
import { Background, done, eventually, run as execute } from '../driver/processes.mjs';
import { Broker, program } from '../driver/ichor.mjs';
import { TalosCluster, tool, tlsFor } from '../driver/peers.mjs';

export const needs = ['talos'];

const address = '127.0.0.2';

// how fast a person types what stands on paper, in characters a second, and how long they read a sheet before
const TYPED = 2;
const READ = 10;

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
  const eveRecipient = fs.readFileSync(`${secondKey}.pub`, 'utf8').trim();
  const sheets = fs.mkdtempSync('/dev/shm/ichor-kit-');
  const kits = path.join(dir, 'kits');
  fs.mkdirSync(kits);
  const made = await broker.admin(['kit', 'create', '--cluster', 'prod', '--shares', '2-of-3', '--recipient', `bob=${sshRecipient}`,
    '--paper', 'ada', '--paper', 'eve', '--role', 'os:reader', '--ttl-cap', '30m', '--witness', 'Ada', '--witness', 'Grace',
    '--reason', 'interop', '--output', kits, '--paper-dir', sheets]);
  // another of paper alone, as the guide has it: three of five
  const onPaper = ['ada', 'bob', 'cleo', 'dan', 'eve'];
  const second = await broker.admin(['kit', 'create', '--cluster', 'prod', '--shares', '3-of-5', ...onPaper.flatMap((holder) => ['--paper', holder]),
    '--role', 'os:reader', '--ttl-cap', '30m', '--witness', 'Ada', '--witness', 'Grace', '--reason', 'interop', '--output', kits, '--paper-dir', sheets]);
  const sheetOf = (number, index, holder) => fs.readFileSync(path.join(sheets, `kit-${number}-share-${index}-${holder}.txt`), 'utf8');
  const rowsOf = (sheet) => {
    const lines = sheet.split('\n');
    const first = lines.indexOf('ICHOR-KIT1') + 1;
    // as they are typed from the sheet: without their numbers
    return lines.slice(first, first + 6).map((row) => row.trim().replace(/^\d+\s+/, ''));
  };
  const paper = [[2, 'bob'], [3, 'cleo'], [5, 'eve']].flatMap(([index, holder]) => rowsOf(sheetOf(2, index, holder)));
  const file = path.join(kits, 'kit-1.toml');
  const share = path.join(kits, 'kit-1-share-1-bob.age');
  const typed = ['ICHOR-KIT1', ...rowsOf(sheetOf(1, 2, 'ada'))].join('\n');
  const typedByEve = ['ICHOR-KIT1', ...rowsOf(sheetOf(1, 3, 'eve'))].join('\n');
  fs.rmSync(sheets, { recursive: true });
  const patches = [made, second].map(({ stdout }) => stdout.slice(stdout.indexOf('machine:\n')).split('\n\n')[0]);
  const accepting = await cluster.patch(patches, 'accepting.yaml');

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

  await check('a kit of paper alone, typed at a terminal row by row, ends in a working talosctl: two seconds of machine time, five minutes by the paper', async () => {
    const reason = 'INC-42 etcd down';
    const commands = ['ichor kit open kit-2.toml', `talosctl --talosconfig kit-2.talosconfig -n ${address} version`];
    fs.copyFileSync(path.join(kits, 'kit-2.toml'), path.join(home, 'kit-2.toml'));
    const lines = ['grace', reason, ...paper];
    const before = performance.now();
    const opened = await within('script', ['-qec', `${program('ichor')} kit open kit-2.toml`, '/dev/null'], { input: lines.map((line) => `${line}\n`).join('') });
    same(opened.code, 0, `exit codes (${opened.text})`);
    const working = await within(tool('talosctl'), commands[1].split(' ').slice(1), { seconds: 60 });
    const took = performance.now() - before;
    same(working.code, 0, `exit codes (${working.text})`);
    has(working.stdout, 'NODE:');
    if (took > 2000) throw new Error(`it took ${took} ms`);
    const characters = [...commands, ...lines].reduce((sum, line) => sum + line.length + 1, 0);
    const seconds = characters / TYPED + 3 * READ + took / 1000;
    if (seconds > 300) throw new Error(`${characters} characters are typed: ${seconds} s`);
    console.log(`  ${characters} characters at ${TYPED} a second, 3 sheets read for ${READ} s each, ${Math.round(took)} ms of machine time: ${Math.round(seconds)} s`);
  });

  await check('while it waits for a share, nothing of it would be dumped', async () => {
    const pipe = path.join(dir, 'share.pipe');
    await done('mkfifo', [pipe]);
    const waiting = new Background('kit open', 'sh', ['-c', 'ulimit -c 4096 && exec "$0" "$@"', program('ichor'), 'kit', 'open', file, '--share', pipe,
      '--name', 'grace', '--reason', 'waits', '--talosconfig', path.join(home, 'waiting.talosconfig')], { cwd: home, env });
    try {
      await eventually(async () => {
        const proc = `/proc/${waiting.child.pid}`;
        has(fs.readFileSync(`${proc}/cmdline`, 'utf8'), 'ichor\0kit');
        // the pipe has no writer: it gets no further than this
        has(fs.readFileSync(`${proc}/limits`, 'utf8'), /^Max core file size\s+0\s+0\s/m);
      }, 10);
    } finally {
      await waiting.end();
    }
  });

  const drill = async (number, proofs, code) => {
    const within_ = (args) => within(program('ichor-broker'), ['kit', 'drill', String(number), ...args, '--dir', broker.dir]);
    const begun = await within_([]);
    same(begun.code, 0, `exit codes (${begun.text})`);
    const [, challenge] = begun.stdout.match(/--challenge ([0-9a-f]{64})/);
    const given = [];
    for (const [shares, input] of proofs) {
      const proved = await within(program('ichor'), ['kit', 'prove', path.join(kits, `kit-${number}.toml`), ...shares, '--challenge', challenge], { input });
      same(proved.code, 0, `exit codes (${proved.text})`);
      given.push('--proof', proved.stdout.trim());
    }
    const ended = await within_(given);
    same(ended.code, code, `exit codes (${ended.text})`);
    return ended.text;
  };
  await check('a drill asks the real node, which accepts the CA; nothing is combined', async () => {
    const said = await drill(1, [[['--share', share, '--identity', key]], [['--share', '-'], typed], [['--share', '-'], typedByEve]], 0);
    has(said, `node ${address}: accepts the kit's CA`);
    has(said, 'Kit 1 is drilled and recorded');
    has((await broker.admin(['kit', 'list'])).stdout, 'kit 1  prod  fresh');
  });

  const staticConfig = path.join(home, 'static.talosconfig');
  let accepted;
  const withStatic = () => within(tool('talosctl'), ['--talosconfig', staticConfig, '-n', address, 'version'], { seconds: 60 });
  const version = () => within(tool('talosctl'), ['--talosconfig', talosconfig, '-n', address, 'version'], { seconds: 60 });
  await check('stock talosctl works with it, and the node\'s own log names the opener and the grant', async () => {
    const result = await version();
    same(result.code, 0, `exit codes (${result.text})`);
    const [record] = fs.readdirSync(path.join(home, '.local/state/ichor/kit-records')).filter((name) => name.startsWith('kit-1-'));
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
    const kills = {};
    let recorded = 0;
    const opening = ['kit', 'open', file, '--share', share, '--identity', key, '--share', '-', '--name', 'grace', '--reason', 'killed',
      '--talosconfig', out, '--records', records];
    for (const call of ['openat', 'write', 'fsync', 'renameat2', 'fchmod']) {
      kills[call] = 0;
      for (let at = 1; at <= 60; at += 1) {
        fs.rmSync(records, { recursive: true, force: true });
        fs.rmSync(out, { force: true });
        const result = await execute('strace', ['-f', '-qq', '-o', '/dev/null', '-e', `trace=${call}`, '-e', `inject=${call}:signal=KILL:when=${at}`,
          program('ichor'), ...opening], { cwd: home, env, input: typed });
        const whole = fs.existsSync(records) && fs.readdirSync(records).some((name) => name.endsWith('.record'));
        if (fs.existsSync(out) && !whole) throw new Error(`killed at ${call} ${at}: a talosconfig without a record`);
        if (whole) {
          recorded += 1;
          for (const name of fs.readdirSync(records).filter((n) => n.endsWith('.record'))) {
            has(fs.readFileSync(path.join(records, name), 'utf8'), /^\{.*\}\nsignature: \S+\n$/, 'a record');
          }
        }
        if (result.code === 0) break;
        kills[call] += 1;
      }
    }
    const all = Object.values(kills).reduce((sum, one) => sum + one, 0);
    const said = Object.entries(kills).map(([call, times]) => `${times} at ${call}`).join(', ');
    // the record's own sync and its folder's are two
    if (kills.fsync < 2 || Object.values(kills).includes(0) || all < 15 || recorded < 3) throw new Error(`only ${said}, ${recorded} with a record`);
    console.log(`  killed ${said}`);

    // and in this order: record on disk, its name on disk, then the talosconfig
    fs.rmSync(records, { recursive: true, force: true });
    fs.rmSync(out, { force: true });
    const log = path.join(dir, 'calls');
    await done('strace', ['-f', '-y', '-qq', '-o', log, '-e', 'trace=openat,fsync,rename,renameat,renameat2', program('ichor'), ...opening], { cwd: home, env, input: typed });
    const calls = fs.readFileSync(log, 'utf8').split('\n');
    const at = (what, pattern) => {
      const found = calls.findIndex((line) => pattern.test(line));
      if (found < 0) throw new Error(`no ${what} among\n${calls.join('\n')}`);
      return found;
    };
    const order = [
      at('sync of the record', /fsync\(\d+<[^>]*\/records\/\.ichor-/),
      at('name of the record', /rename.*\/records\/kit-1-[^"]*\.record"/),
      at('sync of its folder', /fsync\(\d+<[^>]*\/records>/),
      at('talosconfig', /openat\(.*killed\.talosconfig", [^,]*O_CREAT/),
    ];
    same(order.join(), [...order].sort((a, b) => a - b).join(), 'orders of calls');
  });

  await check('after the one printed patch for both kits the node takes the certificate of neither', async () => {
    const revoked = await broker.admin(['kit', 'revoke', '1', '2', '--reason', 'interop', '--machine-config', accepting, '--output', kits]);
    has(revoked.stdout, fs.readFileSync(path.join(kits, 'remove-1.yaml'), 'utf8').trim());
    const patches = ['remove-1.yaml', 'remove-2.yaml'].map((name) => path.join(kits, name)).filter((name) => fs.existsSync(name));
    const removed = await cluster.patchFrom(accepting, patches.map((name) => `@${name}`), 'removed.yaml');
    await node.stop();
    node = await Cut.start(path.join(dir, 'node-after'), removed);
    for (const used of [talosconfig, path.join(home, 'kit-2.talosconfig')]) {
      const result = await within(tool('talosctl'), ['--talosconfig', used, '-n', address, 'version'], { seconds: 60 });
      if (result.code === 0) throw new Error(result.text);
      lacks(result.stdout, 'NODE:');
    }
    has((await broker.admin(['kit', 'list'])).stdout, /kit 1 {2}prod {2}revoked[^]*kit 2 {2}prod {2}revoked/);
  });

  await check('a static kit: the same certificate for whoever opens it, accepted by the node, which logs the kit', async () => {
    const made = await broker.admin(['kit', 'create', '--static', '--valid-for', '30', '--cluster', 'prod', '--shares', '2-of-2',
      '--recipient', `bob=${sshRecipient}`, '--recipient', `eve=${eveRecipient}`, '--role', 'os:reader', '--witness', 'Ada', '--witness', 'Grace',
      '--reason', 'interop', '--output', kits]);
    has(made.stdout, 'user:kit-3');
    const patch = (await broker.admin(['kit', 'patch', '3'])).stdout;
    has(made.stdout, patch);
    const holders = [[['--share', path.join(kits, 'kit-3-share-1-bob.age'), '--identity', key]],
      [['--share', path.join(kits, 'kit-3-share-2-eve.age'), '--identity', secondKey]]];
    const said = await drill(3, holders, 1);
    has(said, `node ${address}: does not accept the kit's CA`);
    has((await broker.admin(['kit', 'list'])).stdout, 'kit 3  prod  undrilled');
    accepted = await cluster.patch([patch], 'accepting-static.yaml');
    await node.stop();
    node = await Cut.start(path.join(dir, 'node-static'), accepted);
    const opening = (name, to) => within(program('ichor'), ['kit', 'open', path.join(kits, 'kit-3.toml'), '--share', path.join(kits, 'kit-3-share-1-bob.age'),
      '--share', path.join(kits, 'kit-3-share-2-eve.age'), '--identity', key, '--identity', secondKey, '--name', name, '--reason', 'INC-43', '--talosconfig', to]);
    for (const [name, to] of [['grace', staticConfig], ['joan', path.join(home, 'joan.talosconfig')]]) {
      const opened = await opening(name, to);
      same(opened.code, 0, `exit codes (${opened.text})`);
      has(opened.stdout, 'A static kit: everyone who opens it holds this certificate.');
    }
    same(fs.readFileSync(staticConfig, 'utf8'), fs.readFileSync(path.join(home, 'joan.talosconfig'), 'utf8'), 'talosconfigs');
    const result = await withStatic();
    same(result.code, 0, `exit codes (${result.text})`);
    has(node.machinedLog().split('\n').filter((l) => l.includes('/machine.MachineService/Version')).at(-1), /talos-role=grant:kit-3-[0-9a-f-]{36},os:reader,user:kit-3/);
    const records = fs.readdirSync(path.join(home, '.local/state/ichor/kit-records')).filter((name) => name.startsWith('kit-3-'));
    same(records.length, 2, 'records: each opening has its own');
    const listed = JSON.parse((await within(program('ichor'), ['-o', 'json', 'kit', 'report'])).stdout).records.filter((r) => r.number === 3);
    same(listed.map((r) => r.name).sort().join(), 'grace,joan', 'who opened it');
    has((await broker.admin(['kit', 'report', path.join(home, '.local/state/ichor/kit-records', records[0]), '--label', 'drill'])).stdout, '(claimed), drill');
  });

  await check('after the printed patch the static certificate is accepted no more', async () => {
    await broker.admin(['kit', 'revoke', '3', '--reason', 'interop', '--machine-config', accepted, '--output', kits]);
    const patches = ['remove-1.yaml', 'remove-2.yaml'].map((name) => path.join(kits, name)).filter((name) => fs.existsSync(name));
    const removed = await cluster.patchFrom(accepted, patches.map((name) => `@${name}`), 'removed-static.yaml');
    await node.stop();
    node = await Cut.start(path.join(dir, 'node-static-after'), removed);
    const result = await withStatic();
    if (result.code === 0) throw new Error(result.text);
    lacks(result.stdout, 'NODE:');
    has(await broker.refuses(['kit', 'patch', '3']), 'is revoked');
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
