// Everything that the suites know of our two programs: their commands, files and pages. They know them as a user does, from
// `--help` and the documentation; nothing of our code is imported.
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Browser, forms, words } from './browser.mjs';
import { freePort } from './ports.mjs';
import { Background, done, run } from './processes.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));
const release = path.resolve(process.env.INTEROP_RELEASE ?? 'target/release');
export const program = (name) => path.join(release, name);

export const ALIAS = 'corp';
const CLIENT = { id: 'ichor-broker', secret: 'a secret that only the broker and the provider know' };

/** A broker in a folder of its own, with its own TLS, behind the given provider. */
export class Broker {
  /** Picks the port first: the provider must know where people come back to. */
  static async plan(dir) {
    const broker = new Broker();
    broker.dir = path.join(dir, 'broker');
    broker.port = await freePort();
    broker.url = `https://localhost:${broker.port}`;
    return broker;
  }

  /** How the provider knows this broker. */
  client() {
    return {
      client_id: CLIENT.id, client_secret: CLIENT.secret, grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'], redirect_uris: [`${this.url}/oauth/callback/${ALIAS}`],
    };
  }

  /** The folder; `sections` are more of its config.toml, `health` is where `/readyz` is to be. */
  async init(provider, policies, { sections = '', health } = {}) {
    await this.admin(['init', this.dir, '--insecure-identity-beside', '--public-url', this.url, '--listen', `127.0.0.1:${this.port}`],
      { folder: false });
    const secret = path.join(this.dir, 'client-secret');
    fs.writeFileSync(secret, CLIENT.secret, { mode: 0o600 });
    const config = path.join(this.dir, 'config.toml');
    if (health) fs.writeFileSync(config, fs.readFileSync(config, 'utf8').replace(/^# health_listen = .*$/m, `health_listen = "${health}"`));
    fs.appendFileSync(config, `
[limits]
requests_per_hour = 1000
per_person = 1000

[[provider]]
alias = "${ALIAS}"
issuer = "${provider.issuer}"
client_id = "${CLIENT.id}"
client_secret_file = "${secret}"
ca_file = "${provider.ca}"
acr_values = ["urn:ichor:mfa"]
max_age = "12h"
authorize_params = { prompt = "consent" } # this provider gives refresh tokens only so

${sections}`);
    const folder = path.join(this.dir, 'policies');
    for (const file of fs.readdirSync(folder)) fs.rmSync(path.join(folder, file), { recursive: true });
    fs.writeFileSync(path.join(folder, 'interop.cedar'), policies);
  }

  /** One of the admin's commands, which must succeed. */
  admin(args, { folder = true } = {}) {
    return done(program('ichor-broker'), [...args, ...(folder ? ['--dir', this.dir] : [])]);
  }

  /** One of the admin's commands, which must fail: its words. */
  async refuses(args) {
    const result = await run(program('ichor-broker'), [...args, '--dir', this.dir]);
    if (result.code === 0) throw new Error(`${result.name}: succeeded\n${result.text}`);
    return result.text;
  }

  async start({ clock, log }) {
    this.process = new Background('ichor-broker', program('ichor-broker'), ['serve', '--dir', this.dir], {
      env: { ...process.env, ...clock?.env() }, log,
    });
    await this.process.says(/serves https:/);
  }

  /** The PEM that people trust this broker by. */
  ca() {
    return path.join(this.dir, 'tls', 'ca.crt');
  }
}

/** Someone at their own machine: a home, a browser, the client. */
export class Person {
  constructor(dir, { broker, provider, clock }) {
    Object.assign(this, { broker, provider, home: dir });
    fs.mkdirSync(dir, { recursive: true });
    this.browser = new Browser([provider.ca, broker.ca()].map((file) => fs.readFileSync(file, 'utf8')));
    this.talosconfig = path.join(dir, '.talos', 'config');
    // What a team commits beside its code.
    fs.writeFileSync(path.join(dir, '.ichor.toml'), `broker = "${broker.url}"\nca_file = "${broker.ca()}"\n`,
      { mode: 0o644 });
    const shims = path.join(dir, 'bin');
    fs.mkdirSync(shims, { recursive: true });
    fs.symlinkSync(path.join(here, 'hand-over.mjs'), path.join(shims, 'xdg-open'));
    this.env = {
      PATH: `${shims}:${path.join(here, '..', '.work', 'bin')}:${process.env.PATH}`,
      HOME: dir, LANG: 'C.UTF-8', ICHOR_KEYRING: 'off', NO_COLOR: '1', BROWSER: 'xdg-open', ...clock?.env(),
    };
  }

  /** The client, whatever it ends with. */
  ichor(args, options = {}) {
    return run(program('ichor'), args, { cwd: this.home, ...options, env: { ...this.env, ...options.env } });
  }

  /** The client, which must succeed. */
  async does(args, options = {}) {
    const result = await this.ichor(args, options);
    if (result.code !== 0) throw new Error(`${result.name}: exit code ${result.code}\n${result.text}`);
    return result;
  }

  /** The client, which must fail: its words. */
  async fails(args, options = {}) {
    const result = await this.ichor(args, options);
    if (result.code === 0) throw new Error(`${result.name}: succeeded\n${result.text}`);
    return result.text;
  }

  /** Answers of the client as values. */
  async json(args) {
    return JSON.parse((await this.does([...args, '-o', 'json'])).stdout);
  }

  /** Stock talosctl in this home, whatever it ends with. */
  talosctl(args, options = {}) {
    return run('talosctl', args, { cwd: this.home, seconds: 90, ...options, env: { ...this.env, ...options.env } });
  }

  /**
   * `ichor login` with this person's browser. `form` is what they give the provider's form; `confirm` sees the broker's page
   * and the terminal's number, and says whether to go on. Returns the client's exit code, words, and the pages.
   */
  async login(form, { flags = [], confirm = () => true } = {}) {
    const opened = await urlCatcher();
    const named = ['login', '--broker', this.broker.url, '--ca', this.broker.ca()];
    const client = new Background('ichor login', program('ichor'), [...named, ...flags], {
      env: { ...this.env, INTEROP_BROWSER: opened.address, PWD: this.home }, cwd: this.home,
    });
    try {
      const url = await Promise.race([opened.url, client.exit.then(() => undefined)]);
      if (!url) return { code: client.code, text: client.text };
      const number = (await client.says(/\b(\d{4} \d{4} \d{4} \d{4})\b/))[1];
      let page = await this.browser.open(url);
      const pages = [page];
      if (new URL(page.url).origin === this.provider.issuer && forms(page.body).length > 0) {
        page = await this.browser.submit(page, form);
        pages.push(page);
      }
      if (forms(page.body).length > 0 && confirm({ page, words: words(page.body), number })) {
        page = await this.browser.submit(page);
        pages.push(page);
      }
      const code = await Promise.race([client.exit, new Promise((r) => { setTimeout(r, 5000, 'waiting'); })]);
      return { code, text: client.text, number, url, pages };
    } finally {
      opened.close();
      await client.end();
    }
  }

  /** Logs in, or throws. */
  async loggedIn(form, options) {
    const result = await this.login(form, options);
    if (result.code !== 0) {
      const pages = (result.pages ?? []).map((p) => `${p.status} ${p.url}\n${words(p.body).slice(0, 600)}`).join('\n');
      throw new Error(`login: ${result.code}\n${result.text}\n${pages}`);
    }
    return result;
  }
}

/** The certificate, CA and key that a talosconfig's context holds, PEM. */
export function credentials(talosconfig, context) {
  const text = fs.readFileSync(talosconfig, 'utf8');
  const section = text.split(new RegExp(`^    ${context}:\\s*$|^  ${context}:\\s*$`, 'm'))[1];
  if (!section) throw new Error(`no context ${context} in ${talosconfig}\n${text.slice(0, 400)}`);
  const value = (key) => Buffer.from(section.match(new RegExp(`^\\s+${key}: *(\\S+)`, 'm'))[1], 'base64').toString();
  return { ca: value('ca'), crt: value('crt'), key: value('key') };
}

/** Waits for `ichor login` to open a browser, and learns where. */
async function urlCatcher() {
  let catched;
  const url = new Promise((resolve) => { catched = resolve; });
  const server = http.createServer(async (req, res) => {
    let body = '';
    for await (const chunk of req) body += chunk;
    res.end();
    catched(body.trim());
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  return { url, address: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}
