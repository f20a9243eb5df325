// The peers as processes: an OpenID provider, and Talos nodes whose apid is the real one.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Background, done } from './processes.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));
const peers = path.join(here, '..', 'peers');
/** Where `run` puts the programs that it builds. */
export const bin = path.join(here, '..', '.work', 'bin');
export const tool = (name) => path.join(bin, name);

/**
 * A TLS certificate from a CA of its own: {ca, certificate, key} are paths. Without more it is a server's at 127.0.0.1; `ca` is
 * the name of another whose CA it comes from.
 */
export async function tlsFor(dir, name, { subject = name, usage = 'serverAuth', names = 'IP:127.0.0.1,DNS:localhost', ca: signer = name } = {}) {
  const at = (file) => path.join(dir, `${name}-${file}`);
  const [key, request, certificate, extensions] = ['tls.key', 'tls.csr', 'tls.pem', 'tls.ext'].map(at);
  const [caKey, ca] = ['ca.key', 'ca.pem'].map((file) => path.join(dir, `${signer}-${file}`));
  fs.writeFileSync(extensions, `subjectAltName=${names}\nextendedKeyUsage=${usage}\nbasicConstraints=CA:FALSE\n`);
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  if (signer === name) {
    await done('openssl', ['req', '-x509', ...ec, '-days', '2', '-subj', `/CN=${name} CA`, '-keyout', caKey, '-out', ca,
      '-addext', 'keyUsage=critical,keyCertSign']);
  }
  await done('openssl', ['req', ...ec, '-subj', `/CN=${subject}`, '-keyout', key, '-out', request]);
  await done('openssl', ['x509', '-req', '-in', request, '-CA', ca, '-CAkey', caKey, '-CAcreateserial', '-days', '2',
    '-extfile', extensions, '-out', certificate]);
  return { ca, certificate, key };
}

export class Provider {
  static async start(dir, clients, { clock } = {}) {
    const provider = new Provider();
    const tls = await tlsFor(dir, 'provider');
    provider.ca = tls.ca;
    provider.process = new Background('oidc-provider', process.execPath, [path.join(peers, 'oidc', 'provider.mjs')], {
      env: { ...process.env, ...clock?.env(), PORT: '0', CLIENTS: JSON.stringify(clients), TLS_CERT: tls.certificate, TLS_KEY: tls.key },
      log: path.join(dir, 'provider.log'),
    });
    const [line] = await provider.process.says(/\{"issuer":.*\}/);
    provider.issuer = JSON.parse(line).issuer;
    return provider;
  }

  /** Asks or changes something under /control. */
  async control(browser, what, change) {
    const options = change ? { method: 'POST', body: JSON.stringify(change), origin: this.issuer } : {};
    const page = await browser.open(`${this.issuer}/control/${what}`, options);
    if (page.status !== 200) throw new Error(`provider control ${what}: ${page.status} ${page.body}`);
    return JSON.parse(page.body);
  }
}

/** The secrets and a control-plane machine config of one made-up cluster, as talosctl makes them. */
export class TalosCluster {
  static async make(dir, name) {
    const cluster = new TalosCluster();
    const at = (file) => path.join(dir, file);
    fs.mkdirSync(dir, { recursive: true });
    Object.assign(cluster, { dir, name, secrets: at('secrets.yaml'), config: at('controlplane.yaml'), talosconfig: at('talosconfig') });
    await talosctl(['gen', 'secrets', '-o', cluster.secrets]);
    await talosctl(['gen', 'config', name, 'https://127.0.0.2:6443', '--with-secrets', cluster.secrets, '--output-dir', dir, '--force']);
    return cluster;
  }

  /** Patches the machine config with talosctl itself; each patch is one `--patch`. */
  patch(patches, into) {
    return this.patchFrom(this.config, patches, into);
  }

  async patchFrom(from, patches, into) {
    const to = path.join(this.dir, into);
    await talosctl(['machineconfig', 'patch', from, ...patches.flatMap((p) => ['--patch', p]), '--output', to]);
    return to;
  }

  /** The cluster's CA certificate, PEM. */
  ca() {
    return Buffer.from(fs.readFileSync(this.talosconfig, 'utf8').match(/^\s+ca: (\S+)/m)[1], 'base64').toString();
  }

  /** A certificate that is not ours, made in exactly this form: the path of its talosconfig. */
  async made(name, args) {
    const out = path.join(this.dir, `${name}.talosconfig`);
    await done(tool('mintcfg'), ['-secrets', this.secrets, '-out', out, ...args]);
    return out;
  }
}

/** A node: real apid, on `address` port 50000. */
export class Node {
  static async start(dir, { address, hostname, config }) {
    const node = new Node();
    Object.assign(node, { address, hostname, dir });
    fs.mkdirSync(dir, { recursive: true });
    node.process = new Background(hostname, tool('talosnode'), [
      '-config', config, '-listen', `${address}:50000`, '-hostname', hostname, '-apid', tool('machined'), '-logs', dir,
    ], { log: path.join(dir, 'talosnode.log') });
    node.controlAddress = (await node.process.says(/control (\S+)/))[1];
    await node.process.says(/^ready$/m);
    return node;
  }

  /** Applies a machine config's CAs, as a node does when its config changes. */
  async apply(config) {
    const response = await fetch(`http://${this.controlAddress}/machine-config`, { method: 'PUT', body: fs.readFileSync(config) });
    if (!response.ok) throw new Error(`${this.hostname} refused the machine config: ${await response.text()}`);
    return (await response.text()).trim();
  }

  machinedLog() {
    return fs.readFileSync(path.join(this.dir, 'machined.log'), 'utf8');
  }

  apidLog() {
    return fs.readFileSync(path.join(this.dir, 'apid.log'), 'utf8');
  }
}

/** The simulated node of the in-process tests, as a process; it accepts the given CA. */
export class StandInNode {
  static async start(dir, { accepted, hostname }) {
    const node = new StandInNode();
    fs.mkdirSync(dir, { recursive: true });
    const program = path.join(process.env.INTEROP_RELEASE, 'examples', 'node');
    node.process = new Background('stand-in node', program, [accepted, hostname], { log: path.join(dir, 'node.log') });
    const { endpoint, ca } = JSON.parse((await node.process.says(/^\{.*\}$/m))[0]);
    node.endpoint = endpoint;
    node.ca = path.join(dir, 'ca.crt');
    fs.writeFileSync(node.ca, ca);
    return node;
  }
}

/** Stock talosctl, away from anyone's own files. */
export function talosctl(args, options = {}) {
  const home = path.join(bin, '..', 'home');
  fs.mkdirSync(home, { recursive: true });
  return done(tool('talosctl'), args, { ...options, env: { ...process.env, HOME: home, ...options.env } });
}
