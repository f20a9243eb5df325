// docs/custody.md, run: its blocks of commands as they stand, by bash, with OpenBao's own `bao`, each custody on a server and in a
// folder of its own. What is put in is what the page says it leaves open: the server's address, where the folder is, the role id
// that a command printed, and a recipient. Part of suite `custody`.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { check, has, same } from '../driver/report.mjs';
import { done } from '../driver/processes.mjs';
import { Broker, Person, program } from '../driver/ichor.mjs';
import { OpenBao, cli } from '../driver/openbao.mjs';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..', '..');
const text = fs.readFileSync(path.join(root, 'docs', 'custody.md'), 'utf8');

/** The blocks of that language below a heading, up to the next one of any level. */
function blocks(heading, language = 'sh') {
  const [, section] = text.split(`\n${heading}\n`);
  if (section === undefined) throw new Error(`docs/custody.md has no heading \`${heading}\``);
  const own = section.split(/\n#{2,3} /)[0];
  const found = [...own.matchAll(new RegExp(`\`\`\`${language}\n([^]*?)\n\`\`\``, 'g'))].map((match) => match[1]);
  if (found.length === 0) throw new Error(`\`${heading}\` has no block in ${language}`);
  return found;
}

/** Lines that are commands. */
const commands = (heading) => blocks(heading).flatMap((block) => block.split('\n')).filter((line) => line && !line.startsWith('#'));

export async function page(world) {
  await check('docs/custody.md: the server, and each custody on it, takes under ten commands', () => {
    for (const heading of ['## A server', '## OpenBao or Vault Transit', '## OpenBao or Vault KV', '## OpenBao or Vault PKI']) {
      const count = commands(heading).length;
      if (count >= 10) throw new Error(`\`${heading}\` takes ${count} commands`);
    }
  });
  for (const custody of ['Transit', 'KV', 'PKI']) {
    const host = await Host.start(world, custody.toLowerCase());
    await check(`docs/custody.md: ${custody}, set up by the page's commands, serves stock talosctl`, async () => {
      await host.knowsTheServer();
      await host.runs(`## OpenBao or Vault ${custody}`);
      has((await host.broker.admin(['check'])).stdout, /ok {4}openbao main/);
      const patch = (await host.broker.admin(['ca', 'patch', 'prod'])).stdout;
      await world.node.apply(await world.cluster.patchFrom(world.cluster.config, [patch], `page-${custody}.yaml`));
      await host.serves();
    });
    if (custody === 'Transit') {
      await delegated(host);
      await secrets(host);
    }
    await host.end();
  }
  await adopted(world);
  await vault(world);
}

/** The cluster makes the certificates, asked with what the CA in Transit signs. */
async function delegated(host) {
  await check('docs/custody.md: the Talos API without a standing credential, by the page\'s command, serves stock talosctl', async () => {
    await host.runs('### The Talos API without a standing credential');
    await host.works();
    has(host.world.node.machinedLog(), /OK \[\/machine.MachineService\/GenerateClientConfiguration\].*user:~system/);
    await host.broker.admin(['ca', 'delegate', 'prod', '--end', '--reason', 'interop']);
  });
}

/** The way in for those who hold nothing but a talosconfig. */
async function adopted(world) {
  const host = await Host.start(world, 'adopted', { declared: false });
  await check('docs/custody.md: the Talos API, set up by the page\'s commands, serves stock talosctl', async () => {
    fs.copyFileSync(world.cluster.talosconfig, path.join(host.dir, 'talosconfig.yaml'));
    await host.runs('## The Talos API');
    await host.serves();
  });
  await host.end();
}

/** The broker's own secrets, in the same server. */
async function secrets(host) {
  await check('docs/custody.md: the broker\'s data key and audit key move to Transit by the page\'s commands', async () => {
    await host.stops();
    await host.runs('## The broker\'s own secrets');
    const home = (name) => fs.readFileSync(path.join(host.broker.dir, 'vault', 'secrets', `${name}.toml`), 'utf8');
    has(home('data-key'), 'vault:v1:');
    has(home('audit-key'), 'ichor.audit');
    for (const key of ['ichor.broker', 'ichor.audit']) {
      same((await host.bao.does('GET', `transit/keys/${key}`)).data.exportable, false, `whether ${key} is exportable`);
    }
    await host.serves();
    has((await host.broker.admin(['audit', 'verify'])).stdout, 'no damage');
  });
}

/** Who can open the vault, and what is left when it is gone. `age-keygen` is ssh-keygen's key here: no age program is at hand. */
async function vault(world) {
  const host = await Host.start(world, 'vault');
  await check('docs/custody.md: reseal, backup, drill and restore by the page\'s commands', async () => {
    await host.broker.admin(['ca', 'create', 'prod', '--reason', 'interop']);
    const before = (await host.broker.admin(['ca', 'export-public', 'prod'])).stdout;
    await host.runs('### Change who can open it');
    await host.runs('### Back up, try out, restore');
    same((await host.broker.admin(['ca', 'export-public', 'prod'])).stdout, before, 'the CA after the restore');
    same(fs.existsSync(path.join(host.broker.dir, 'vault.old', 'ca', 'prod.age')), true, 'whether the old vault lies aside');
  });
  await host.end();
}

/** A folder, a broker in it, and a vault server, with a room where the page's commands are called. */
class Host {
  static async start(world, name, { declared = true } = {}) {
    const host = new Host();
    const dir = path.join(world.dir, `page-${name}`);
    fs.mkdirSync(path.join(dir, 'bin'), { recursive: true });
    Object.assign(host, { world, dir, broker: await Broker.plan(dir) });
    host.bao = await OpenBao.start(path.join(dir, 'openbao'));
    // of the world's provider, which knows the first broker only by where people come back to
    host.broker.port = world.broker.port;
    host.broker.url = world.broker.url;
    await host.broker.init(world.provider, world.policies);
    const declare = ['cluster', 'add', 'prod', '--from', world.cluster.talosconfig, '--label', 'env=prod', '--reason', 'interop'];
    if (declared) await host.broker.admin(declare);
    fs.symlinkSync(path.join(root, 'deploy'), path.join(dir, 'deploy'));
    host.shim('bao', `exec ${cli} "$@"`);
    host.shim('ichor-broker', `exec ${program('ichor-broker')} "$@" --dir ${host.broker.dir}`);
    host.shim('age-keygen', 'exec ssh-keygen -q -t ed25519 -N "" -f "$2"');
    await done('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', path.join(dir, 'team')]);
    return host;
  }

  shim(name, script) {
    fs.writeFileSync(path.join(this.dir, 'bin', name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  }

  /** What its commands print, block by block. */
  async runs(heading) {
    let said = '';
    for (const block of blocks(heading)) said += (await this.bash(block, heading)).stdout;
    return said;
  }

  bash(block, heading) {
    const key = (file) => { try { return fs.readFileSync(path.join(this.dir, file), 'utf8').trim(); } catch { return ''; } };
    const team = key('team.pub');
    const script = block.replaceAll('/etc/ichor', this.broker.dir).replaceAll('"ssh-ed25519 AAAA…"', `"${team}"`)
      // in a backup it is the new key's, which the command before made
      .replaceAll('age1…', heading.startsWith('### Change') ? `"${team}"` : '"$(cat key.txt.pub)"');
    const env = {
      PATH: `${path.join(this.dir, 'bin')}:${process.env.PATH}`, HOME: this.dir, LANG: 'C.UTF-8',
      BAO_ADDR: this.bao.url, BAO_CACERT: this.bao.ca, BAO_TOKEN: this.bao.root,
    };
    return done('bash', ['--norc', '-euo', 'pipefail', '-c', script], { cwd: this.dir, env, seconds: 120 });
  }

  /** The page's `[[openbao]]`, with what it leaves open. */
  async knowsTheServer() {
    const said = await this.runs('## A server');
    const [role] = said.match(/^[0-9a-f]{8}-[0-9a-f-]{27}$/m);
    const [section] = blocks('## A server', 'toml');
    const filled = section.replace('https://bao.example:8200', this.bao.url).replace('tls/bao-ca.pem', this.bao.ca).replace('5c2b…', role);
    fs.appendFileSync(path.join(this.broker.dir, 'config.toml'), `\n${filled}\n`);
  }

  /** Someone logs in and their certificate works at the node. */
  async serves() {
    await this.broker.start({ log: path.join(this.dir, 'broker.log') });
    this.people = (this.people ?? 0) + 1;
    this.alice = new Person(path.join(this.dir, `alice-${this.people}`), { broker: this.broker, provider: this.world.provider });
    await this.alice.loggedIn({ login: 'alice' });
    await this.works();
  }

  /** A new certificate of the person's works at the node. */
  async works() {
    const result = await this.alice.does(['exec', 'prod', '--ttl', '30m', '--', 'talosctl', '-n', this.world.node.address, 'version']);
    has(result.stdout, /SHA: +stub/);
  }

  async stops() {
    await this.broker.process?.end();
  }

  async end() {
    await this.stops();
    await this.bao.end();
  }
}
