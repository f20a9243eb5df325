// A PostgreSQL server of our own, and several brokers on one of its databases behind one address.
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Broker } from './ichor.mjs';
import { freePort } from './ports.mjs';
import { done, eventually, run } from './processes.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));
const start = path.join(here, '..', 'peers', 'postgres', 'start');

/** A server that keeps its data in `dir`, as durable as in production. */
export class Postgres {
  /** `tls` is {certificate, key, clientCa}; clients over TCP then show a certificate of that CA. */
  static async start(dir, { tls } = {}) {
    const server = new Postgres();
    Object.assign(server, { dir, port: await freePort(), tls });
    await server.again();
    return server;
  }

  async again() {
    const tls = this.tls ? [this.tls.certificate, this.tls.key, this.tls.clientCa] : [];
    const { stdout } = await done(start, [this.dir, String(this.port), ...tls]);
    this.pid = Number(stdout.trim());
  }

  /** A database's URL over the Unix socket. */
  url(database) {
    return `postgres://ichor@/${database}?host=${this.dir}&port=${this.port}`;
  }

  /** Runs SQL in a database; the answer, unaligned. */
  async sql(database, text) {
    const result = await done('psql', ['-h', this.dir, '-p', String(this.port), '-U', 'ichor', '-d', database, '-AtqX', '-v', 'ON_ERROR_STOP=1', '-c', text]);
    return result.stdout.trim();
  }

  async database(name) {
    await this.sql('postgres', `CREATE DATABASE ${name}`);
    return this.url(name);
  }

  /** Ends it as a crash would: no checkpoint, nothing said to clients. */
  async crash() {
    process.kill(this.pid, 'SIGQUIT');
    await this.gone();
  }

  async stop() {
    try {
      process.kill(this.pid, 'SIGINT');
    } catch {
      return; // it has ended
    }
    await this.gone();
  }

  gone() {
    return eventually(() => {
      try {
        process.kill(this.pid, 0);
      } catch {
        return;
      }
      throw new Error('the server still runs');
    }, 30);
  }
}

/** Takes connections for the brokers' common address and hands each to one of them. */
export class Balancer {
  static async start(port, ports) {
    const balancer = new Balancer();
    Object.assign(balancer, { ports, turn: 0, only: undefined, open: new Set(), begun: new Map(), waits: [] });
    balancer.server = net.createServer((client) => balancer.take(client));
    await new Promise((resolve) => { balancer.server.listen(port, '127.0.0.1', resolve); });
    return balancer;
  }

  /** Hands a connection to the broker whose turn it is; to the next one where that one takes none. */
  take(client) {
    this.turn += 1;
    const turns = this.only === undefined ? this.ports.map((_, at) => this.ports[(this.turn + at) % this.ports.length]) : [this.only];
    this.open.add(client);
    client.on('error', () => {});
    client.on('close', () => this.open.delete(client));
    this.connect(client, turns);
  }

  connect(client, [port, ...others]) {
    // from here on the broker may take it, whoever learns of that when
    client.broker = port;
    this.begun.set(port, (this.begun.get(port) ?? 0) + 1);
    this.waits = this.waits.filter((wait) => !wait());
    const broker = net.connect(port, '127.0.0.1');
    broker.once('error', () => (others.length > 0 && !broker.taken ? this.connect(client, others) : client.destroy()));
    broker.once('connect', () => {
      broker.taken = true;
      client.on('close', () => broker.destroy());
      broker.on('close', () => client.destroy());
      client.pipe(broker).pipe(client);
    });
  }

  /** How many connections this broker has now. */
  openTo(number) {
    return [...this.open].filter((client) => client.broker === this.ports[number]).length;
  }

  /** How many connections were ever begun to this broker. */
  begunTo(number) {
    return this.begun.get(this.ports[number]) ?? 0;
  }

  /** Returns once `count` more connections were begun to this broker: told by the connection itself, for it may be over before one looks. */
  begins(number, count) {
    const wanted = this.begunTo(number) + count;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`of ${wanted} connections to broker ${number} there were ${this.begunTo(number)}`)), 15_000);
      this.waits.push(() => {
        const isThere = this.begunTo(number) >= wanted;
        if (isThere) {
          clearTimeout(timer);
          resolve();
        }
        return isThere;
      });
    });
  }

  /** From now on everything goes to this broker, also what was connected to another. */
  to(number) {
    this.only = number === undefined ? undefined : this.ports[number];
    for (const socket of this.open) socket.destroy();
  }

  close() {
    this.server.close();
    for (const socket of this.open) socket.destroy();
  }
}

/** `count` brokers on one database, each with a folder, a port and a name of its own, one custody and one public address. */
export class Brokers {
  static async plan(dir, count) {
    const brokers = new Brokers();
    brokers.first = await Broker.plan(path.join(dir));
    brokers.all = [brokers.first];
    for (let number = 1; number < count; number += 1) {
      const broker = new Broker();
      broker.url = brokers.first.url;
      broker.dir = path.join(dir, `broker-${number}`);
      brokers.all.push(broker);
    }
    brokers.address = brokers.first.port;
    return brokers;
  }

  /** Makes the first broker's folder; `url` is where the database is. */
  async init(provider, policies, url, options) {
    const { first } = this;
    await first.init(provider, policies, options);
    fs.writeFileSync(path.join(first.dir, 'database-url'), url, { mode: 0o600 });
    const config = path.join(first.dir, 'config.toml');
    let text = fs.readFileSync(config, 'utf8');
    text = /^\[store\]/m.test(text)
      ? text.replace(/^\[store\].*$/m, '[store]\nurl_file = "database-url"')
      : `${text}\n[store]\nurl_file = "database-url"\n`;
    fs.writeFileSync(config, text);
  }

  /** Copies the first broker's folder for the others, once everything is declared in it, and starts the balancer. */
  async spread(dir) {
    for (const broker of this.all.slice(1)) fs.cpSync(this.first.dir, broker.dir, { recursive: true });
    for (const [number, broker] of this.all.entries()) {
      broker.port = await freePort();
      broker.health = await freePort();
      broker.log = path.join(dir, `broker-${number}.log`);
      const config = path.join(broker.dir, 'config.toml');
      fs.writeFileSync(config, fs.readFileSync(config, 'utf8')
        .replace(/^listen = .*$/m, `listen = "127.0.0.1:${broker.port}"\nname = "broker-${number}"`)
        .replace(/^# health_listen = .*$/m, `health_listen = "127.0.0.1:${broker.health}"`));
    }
    this.balancer = await Balancer.start(this.address, this.all.map((broker) => broker.port));
  }

  start(number) {
    const broker = this.all[number];
    return broker.start({ log: broker.log });
  }

  /** `/readyz` of one broker: its status. */
  async ready(number) {
    const result = await run('curl', ['-s', '-o', '/dev/null', '-m', '15', '-w', '%{http_code}', `http://127.0.0.1:${this.all[number].health}/readyz`]);
    return Number(result.stdout);
  }
}
