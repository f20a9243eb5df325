// Commands on the vault as real processes, killed (SIGKILL) at each of their system calls that make a file: what is left is
// the old state or one that the same command goes on with. strace counts the calls and kills.
import fs from 'node:fs';
import path from 'node:path';
import { check, has } from '../driver/report.mjs';
import { StandInNode } from '../driver/peers.mjs';
import { run } from '../driver/processes.mjs';
import { program } from '../driver/ichor.mjs';

/** The calls by which a file comes to be, goes, or is durable; how often a command may make them before something is wrong. */
const CALLS = ['rename,renameat,renameat2,link,linkat', 'unlink,unlinkat', 'fsync,fdatasync'];
const MOST = 150;

/**
 * Kills `args` at each such call, each time in a copy of `base`; `left(dir, said)` looks at what is there then, `whole(dir)` at
 * the end of the same command, or of what `again(dir)` answers. Answers how many times it was killed.
 */
async function killed(base, name, args, { left, whole, again, calls = CALLS }) {
  let kills = 0;
  for (const call of calls) {
    for (let number = 1; ; number += 1) {
      if (number > MOST) throw new Error(`${name}: more than ${MOST} calls of ${call}`);
      const dir = `${base}-killed`;
      fs.rmSync(dir, { recursive: true, force: true });
      fs.cpSync(base, dir, { recursive: true });
      const at = `${name}, killed at ${call} ${number}`;
      const command = args(dir);
      const strace = ['-f', '-qq', '-o', '/dev/null', '-e', `trace=${call}`, '-e', `inject=${call}:signal=KILL:when=${number}`];
      const result = await run('strace', [...strace, program('ichor-broker'), ...command, '--dir', path.join(dir, 'broker')], { cwd: dir });
      const ended = result.code === 0 || /not every node accepts/.test(result.text);
      if (ended) break;
      if (result.code !== 'SIGKILL' && result.code !== 137) throw new Error(`${at}: ended with ${result.code}\n${result.text}`);
      kills += 1;
      await left(dir, at);
      const next = again ? await again(dir) : command;
      if (next) {
        const retried = await broker(dir, next);
        if (retried.code !== 0 && !/not every node accepts/.test(retried.text)) throw new Error(`${at}: then ${retried.text}`);
      }
      await whole(dir, at);
    }
  }
  return kills;
}

function broker(dir, args) {
  return run(program('ichor-broker'), [...args, '--dir', path.join(dir, 'broker')], { cwd: dir });
}

/** The line of `check` about the cluster's CA. */
async function line(dir, cluster = 'prod') {
  const { stdout } = await broker(dir, ['check']);
  return stdout.split('\n').find((text) => text.includes(` ca ${cluster}`)) ?? '';
}

/** A file of the vault's folder of CAs. */
function ca(dir, file) {
  return path.join(dir, 'broker', 'vault', 'ca', file);
}

/** The record of the cluster's CA. */
function record(dir) {
  return fs.readFileSync(ca(dir, 'prod.toml'), 'utf8');
}

/** The fingerprint and place of the CA in force, from `ca show`; undefined where there is none. */
async function inForce(dir, cluster = 'prod') {
  const { code, stdout, text } = await broker(dir, ['ca', 'show', cluster]);
  if (code !== 0) {
    has(text, 'no such CA in custody');
    return undefined;
  }
  // its record is there, and its key is not yet
  if (/does not exist/.test(stdout)) return undefined;
  return [stdout.match(/lives in (.*)/)?.[1], stdout.match(/certificate sha256 (\w+)/)?.[1]].join(' ');
}

/** Every command of `[name, options]` on a folder `base` that has `broker/` in it. */
async function commandsKilled(base, commands) {
  for (const [name, options] of commands) {
    await check(`kill -9 at each file call of ${name}: the old state or one that is gone on with`, async () => {
      const kills = await killed(base, name, options.args, options);
      if (kills < 3) throw new Error(`only ${kills} kills`);
      console.log(`        ${kills} kills`);
    });
  }
}

/** The vault's own commands, with age files. */
export async function vaultKilled(world) {
  const base = path.join(world.dir, 'vault-killed');
  fs.mkdirSync(base);
  fs.cpSync(world.broker.dir, path.join(base, 'broker'), { recursive: true, filter: (file) => !/admin\.sock|ichor\.db/.test(file) });
  const has_ca = await inForce(base);
  const key = await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', path.join(base, 'key')]);
  if (key.code !== 0) throw new Error(key.text);
  const recipient = fs.readFileSync(path.join(base, 'key.pub'), 'utf8').trim();
  const backup = await broker(base, ['custody', 'backup', 'vault.age', '--recipient', recipient, '--reason', 'interop']);
  if (backup.code !== 0) throw new Error(backup.text);

  const unchanged = async (dir, at) => has(await inForce(dir), has_ca, at);
  const fine = async (dir, at) => { await unchanged(dir, at); has(await line(dir), 'ok ', at); };
  await commandsKilled(base, [
    ['custody reseal', {
      args: () => ['custody', 'reseal', '--recipient', recipient, '--reason', 'interop'],
      left: unchanged,
      // where it had come to its end, it is sealed so already
      again: async () => ['custody', 'reseal', '--reason', 'interop'],
      whole: fine,
    }],
    ['custody backup', {
      args: () => ['custody', 'backup', 'second.age', '--recipient', recipient, '--reason', 'interop'],
      left: fine,
      // there whole, or not at all
      again: async (dir) => (fs.existsSync(path.join(dir, 'second.age')) ? undefined
        : ['custody', 'backup', 'second.age', '--recipient', recipient, '--reason', 'interop']),
      whole: async (dir, at) => {
        const drill = await broker(dir, ['custody', 'restore', 'second.age', '--drill', '--identity', 'key', '--reason', 'interop']);
        has(drill.text, 'all good', at);
      },
    }],
    ['ca rotate', {
      args: () => ['ca', 'rotate', 'prod', '--wait', '0s', '--node', '127.0.0.1:1', '--reason', 'interop'],
      left: unchanged,
      again: async (dir) => {
        const show = (await broker(dir, ['ca', 'show', 'prod'])).stdout;
        const go_on = /a rotation is under way/.test(show) ? ['--continue'] : [];
        return ['ca', 'rotate', 'prod', ...go_on, '--wait', '0s', '--node', '127.0.0.1:1', '--reason', 'interop'];
      },
      whole: async (dir, at) => {
        await unchanged(dir, at);
        has((await broker(dir, ['ca', 'show', 'prod'])).stdout, 'a rotation is under way', at);
      },
    }],
    ['ca retire --compromised', {
      args: () => ['ca', 'retire', 'prod', '--compromised', '--reason', 'interop'],
      left: async (dir, at) => {
        has(await line(dir), /ok .*ca prod|was retired/, at);
        fs.writeFileSync(path.join(dir, 'record'), record(base));
      },
      // done is what leaves neither the record nor the key in its place
      again: async (dir) => (fs.existsSync(ca(dir, 'prod.age')) || !/custody = "retired"/.test(record(dir))
        ? ['ca', 'retire', 'prod', '--compromised', '--reason', 'interop'] : undefined),
      whole: async (dir, at) => {
        has(await line(dir), 'was retired', at);
        has(fs.existsSync(ca(dir, 'prod.age')) ? 'in its place' : 'set aside', 'set aside', at);
        // put back, it is refused by the log
        fs.renameSync(ca(dir, 'prod.age.retired'), ca(dir, 'prod.age'));
        fs.copyFileSync(path.join(dir, 'record'), ca(dir, 'prod.toml'));
        has(await line(dir), 'which was retired by an entry of the audit log', at);
      },
    }],
  ]);

  fs.renameSync(path.join(base, 'broker', 'vault'), path.join(base, 'lost'));
  await commandsKilled(base, [['custody restore', {
    args: () => ['custody', 'restore', 'vault.age', '--identity', 'key', '--reason', 'interop'],
    left: async (dir, at) => {
      const said = await line(dir);
      if (said) has(said, 'ok ', at);
    },
    again: async (dir) => (fs.existsSync(path.join(dir, 'broker', 'vault')) ? undefined
      : ['custody', 'restore', 'vault.age', '--identity', 'key', '--reason', 'interop']),
    whole: fine,
  }]]);
  fs.renameSync(path.join(base, 'lost'), path.join(base, 'broker', 'vault'));

  // the same folder before it had a CA
  fs.rmSync(path.join(base, 'broker', 'vault', 'ca', 'prod.age'));
  await commandsKilled(base, [['ca create', {
    args: () => ['ca', 'create', 'prod', '--reason', 'interop'],
    left: async (dir, at) => has(await line(dir), /ok |no CA in custody|does not exist/, at),
    again: async (dir) => (await inForce(dir) ? undefined : ['ca', 'create', 'prod', '--reason', 'interop']),
    whole: async (dir, at) => has(await line(dir), 'ok ', at),
  }]]);
  await importKilled(base);
  await switchKilled(base);
}

/** A CA that exists elsewhere, imported. */
async function importKilled(base) {
  const made = await run('openssl', ['req', '-x509', '-newkey', 'ed25519', '-nodes', '-days', '365', '-subj', '/O=talos', '-keyout',
    path.join(base, 'ca.key'), '-out', path.join(base, 'ca.crt'), '-addext', 'keyUsage=critical,digitalSignature,keyCertSign']);
  if (made.code !== 0) throw new Error(made.text);
  const command = ['ca', 'import', 'prod', '--from', 'ca.crt', '--from', 'ca.key', '--reason', 'interop'];
  await commandsKilled(base, [['ca import', {
    args: () => command,
    left: async (dir, at) => has(await line(dir), /ok |no CA in custody|does not exist/, at),
    again: async (dir) => (await inForce(dir) ? undefined : command),
    whole: async (dir, at) => has(await line(dir), 'ok ', at),
  }]]);
}

/** A rotation whose new CA a node accepts by now: `--continue` puts it in force. */
async function switchKilled(base) {
  const cluster = path.join(base, 'broker', 'clusters', 'turned.toml');
  fs.copyFileSync(path.join(base, 'broker', 'clusters', 'prod.toml'), cluster);
  const rotate = (...more) => ['ca', 'rotate', 'turned', '--wait', '0s', '--reason', 'interop', ...more];
  for (const [command, expected] of [[['ca', 'create', 'turned', '--reason', 'interop'], /ca patch turned/],
    [rotate('--node', '127.0.0.1:1'), /not every node accepts/]]) has((await broker(base, command)).text, expected);
  const old = await inForce(base, 'turned');
  const [, next] = (await broker(base, ['ca', 'patch', 'turned', '--next'])).stdout.match(/crt: "?([\w+/=]+)/);
  const accepted = path.join(base, 'accepted.pem');
  fs.writeFileSync(accepted, Buffer.from(next, 'base64'));
  const node = await StandInNode.start(path.join(base, 'node'), { accepted, hostname: 'node-a' });
  try {
    fs.writeFileSync(cluster, `endpoints = ["${node.endpoint}"]\nca = '''\n${fs.readFileSync(node.ca, 'utf8')}'''\n`);
    const go_on = rotate('--continue', '--node', node.endpoint);
    await commandsKilled(base, [['ca rotate --continue', {
      args: () => go_on,
      // the old CA in force or the new one, and either opens
      left: async (dir, at) => {
        const now = await inForce(dir, 'turned');
        if (now !== old) has(now, 'turned.2.age', at);
        has(await line(dir, 'turned'), now === old ? /ok |a rotation is under way/ : 'ok ', at);
      },
      again: async (dir) => (await inForce(dir, 'turned') === old ? go_on : undefined),
      whole: async (dir, at) => {
        has(await inForce(dir, 'turned'), 'turned.2.age', at);
        has(await line(dir, 'turned'), 'ok ', at);
      },
    }]]);
  } finally {
    await node.process.end();
  }
}

/** Commands that make a CA at a real OpenBao, or bring one there, each killed at every file that they write here. */
export async function serverKilled(world) {
  const base = path.join(world.dir, 'server-killed');
  fs.mkdirSync(base);
  fs.cpSync(world.broker.dir, path.join(base, 'broker'), { recursive: true, filter: (file) => !/admin\.sock|ichor\.db/.test(file) });
  for (const name of ['born', 'moved']) {
    fs.copyFileSync(path.join(base, 'broker', 'clusters', 'via-kv.toml'), path.join(base, 'broker', 'clusters', `${name}.toml`));
  }
  const made = await broker(base, ['ca', 'create', 'moved', '--reason', 'interop']);
  if (made.code !== 0) throw new Error(made.text);
  const was = (await inForce(base, 'moved')).split(' ').at(-1);
  const at = ['--server', 'transit', '--reason', 'interop'];
  const create = ['ca', 'create', 'born', '--custody', 'transit', '--token-file', await world.operator('transit-admin.hcl', 'born'), ...at];
  const move = ['ca', 'move', 'moved', '--to', 'transit', '--token-file', await world.operator('transit-admin.hcl', 'moved'), ...at];
  const token = path.join(base, 'root-token');
  fs.writeFileSync(token, world.bao.root);
  const secrets = ['custody', 'move-secrets', '--to', 'kv', '--server', 'kv', '--token-file', token, '--reason', 'interop'];
  const values = new Set();
  const [rules, kv] = [world.rules.transit, world.rules.kv];
  await world.may('transit', [...rules, ['transit.hcl', 'born'], ['transit.hcl', 'moved']]);
  // what the broker itself cannot read does not become its data key
  await world.may('kv', [...kv, ['secrets.hcl', '']]);
  await commandsKilled(base, [
    ['ca create at OpenBao', {
      args: () => create,
      left: async (dir, said) => has(await line(dir, 'born'), /ok |no CA in custody/, said),
      again: async (dir) => (await inForce(dir, 'born') ? undefined : create),
      whole: async (dir, said) => {
        has(await inForce(dir, 'born'), 'Transit key transit/ichor-born version 1', said);
        has(await line(dir, 'born'), 'ok ', said);
      },
    }],
    ['ca move to OpenBao', {
      args: () => move,
      // the same CA wherever it lives
      left: async (dir, said) => { has(await inForce(dir, 'moved'), was, said); has(await line(dir, 'moved'), 'ok ', said); },
      again: async (dir) => (/Transit/.test(await inForce(dir, 'moved')) ? undefined : move),
      whole: async (dir, said) => {
        has(await inForce(dir, 'moved'), 'Transit key transit/ichor-moved version 1', said);
        has(await inForce(dir, 'moved'), was, said);
      },
    }],
    ['custody move-secrets to OpenBao', {
      args: () => secrets,
      // the copy before stays, whatever the new place is
      left: async (dir, said) => { if (!fs.existsSync(path.join(dir, 'broker/vault/secrets/data-key.age'))) throw new Error(said); },
      again: async () => secrets,
      whole: async (dir, said) => {
        has(fs.readFileSync(path.join(dir, 'broker/vault/secrets/data-key.toml'), 'utf8'), 'custody = "kv"', said);
        values.add((await world.bao.does('GET', 'secret/data/ichor-broker/data-key')).data.data.value);
        if (values.size !== 1) throw new Error(`${said}: the data key is another`);
      },
    }],
  ]);
  await world.may('transit', rules);
  await world.may('kv', kv);
}
