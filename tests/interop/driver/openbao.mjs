// A real OpenBao server: installed, started on free ports, initialised, unsealed, asked, ended.
import fs from 'node:fs';
import https from 'node:https';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from './ports.mjs';
import { bin, tlsFor } from './peers.mjs';
import { Background, done, eventually } from './processes.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));
const peer = path.join(here, '..', 'peers', 'openbao');
const installed = path.join(bin, '..', 'openbao');
const policies = path.join(here, '..', '..', '..', 'deploy', 'openbao');

/** OpenBao's own program, which is server and command line. */
export const cli = path.join(installed, 'bao');

export class OpenBao {
  /**
   * A server in `dir`, unsealed, with nothing mounted. `storage` is `inmem` (everything is gone when it ends) or `raft`
   * (survives `kill` and `restart`, and takes some ten seconds to begin). `clientCa` is the path of a PEM bundle.
   */
  static async start(dir, { storage = 'inmem', clientCa } = {}) {
    await done(path.join(peer, 'install'), [installed], { seconds: 300 });
    const bao = new OpenBao();
    fs.mkdirSync(dir, { recursive: true });
    bao.dir = dir;
    bao.port = await freePort();
    bao.url = `https://127.0.0.1:${bao.port}`;
    const tls = await tlsFor(dir, 'openbao');
    bao.ca = tls.ca;
    bao.auditLog = path.join(dir, 'audit.log');
    const filled = {
      STORAGE: bao.storage(storage), PORT: bao.port, CLUSTER_PORT: await freePort(), CERTIFICATE: tls.certificate, KEY: tls.key,
      CLIENT_CA: clientCa ?? tls.ca, AUDIT_LOG: bao.auditLog,
    };
    bao.config = path.join(dir, 'server.hcl');
    const template = fs.readFileSync(path.join(peer, 'server.hcl'), 'utf8');
    fs.writeFileSync(bao.config, template.replace(/\{\{(\w+)\}\}/g, (_, name) => filled[name]));
    await bao.launch();
    const init = await bao.must('PUT', 'sys/init', { secret_shares: 1, secret_threshold: 1 });
    [bao.unsealKey] = init.keys;
    bao.root = init.root_token;
    await bao.unseal();
    return bao;
  }

  storage(kind) {
    if (kind === 'inmem') return 'storage "inmem" {}';
    const data = path.join(this.dir, 'data');
    fs.mkdirSync(data);
    return `storage "raft" {\n  path    = "${data}"\n  node_id = "only"\n}`;
  }

  /** Returns once the server answers, sealed. */
  async launch() {
    const home = path.join(this.dir, 'home');
    fs.mkdirSync(home, { recursive: true });
    this.process = new Background('openbao', cli, ['server', `-config=${this.config}`], {
      env: { PATH: process.env.PATH, HOME: home }, log: path.join(this.dir, 'openbao.log'),
    });
    await eventually(async () => {
      if (this.process.code !== undefined) throw new Error(`openbao ended with ${this.process.code}\n${this.process.text}`);
      await this.call('GET', 'sys/health');
    });
  }

  /** The same server as whoever is in that namespace sees it. */
  within(namespace) {
    return Object.assign(Object.create(this), { namespace });
  }

  seal() {
    return this.must('PUT', 'sys/seal', undefined, { token: this.root });
  }

  /** Returns once the server takes requests. */
  async unseal() {
    await this.must('PUT', 'sys/unseal', { key: this.unsealKey });
    await eventually(async () => {
      const { status, text } = await this.call('GET', 'sys/health');
      if (status !== 200) throw new Error(`health ${status} ${text}`);
    }, 60);
  }

  /** As a crash: SIGKILL, and back with `launch` and `unseal`. */
  async kill() {
    this.process.child.kill('SIGKILL');
    await this.process.exit;
  }

  /** SIGSTOP and SIGCONT. */
  pause() {
    this.process.child.kill('SIGSTOP');
  }

  resume() {
    this.process.child.kill('SIGCONT');
  }

  end() {
    return this.process.end();
  }

  /** Mounts an engine. */
  mount(at, type, options) {
    return this.must('POST', `sys/mounts/${at}`, { type, options }, { token: this.root });
  }

  /** The files of `deploy/openbao/`. */
  static policies() {
    return fs.readdirSync(policies).filter((file) => file.endsWith('.hcl'));
  }

  /** The text of a policy of `deploy/openbao/`, for that cluster. */
  static rules(file, cluster) {
    return fs.readFileSync(path.join(policies, file), 'utf8').replaceAll('CLUSTER', cluster);
  }

  /** A policy of `deploy/openbao/`, for that cluster, under the name of its file and the cluster. */
  async policy(file, cluster) {
    const name = `${path.basename(file, '.hcl')}-${cluster}`;
    await this.does('PUT', `sys/policies/acl/${name}`, { policy: OpenBao.rules(file, cluster) });
    return name;
  }

  /** A token with exactly these policies, not even the default one. */
  async token(...names) {
    const body = { policies: names, no_default_policy: true, ttl: '10m' };
    return (await this.must('POST', 'auth/token/create', body, { token: this.root })).auth.client_token;
  }

  /** What the root token gets: the body of a call that must succeed. */
  async does(method, at, body) {
    return this.must(method, at, body, { token: this.root });
  }

  async must(method, at, body, options) {
    const { status, text, json } = await this.call(method, at, body, options);
    if (status >= 300) throw new Error(`${method} ${at}: ${status} ${text}`);
    return json;
  }

  /** One request: {status, headers, text, json}. `identity` is {cert, key} in PEM. */
  call(method, at, body, { token, namespace = this.namespace, identity } = {}) {
    const headers = {};
    if (token) headers['x-vault-token'] = token;
    if (namespace) headers['x-vault-namespace'] = namespace;
    if (method === 'PATCH') headers['content-type'] = 'application/merge-patch+json';
    const sent = body === undefined ? undefined : JSON.stringify(body);
    if (sent !== undefined) headers['content-length'] = Buffer.byteLength(sent);
    const options = { method, headers, ca: fs.readFileSync(this.ca), agent: false, timeout: 30_000, ...identity };
    return new Promise((resolve, reject) => {
      const request = https.request(`${this.url}/v1/${at}`, options, (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (data) => { text += data; });
        response.on('error', reject);
        response.on('end', () => {
          let json;
          try { json = JSON.parse(text); } catch { /* some answers are no JSON */ }
          resolve({ status: response.statusCode, headers: response.headers, text, json });
        });
      });
      request.on('timeout', () => request.destroy(new Error(`${method} ${at}: no answer`)));
      request.on('error', reject);
      request.end(sent);
    });
  }
}
