// Ports for servers that are told theirs before they start.
import { randomInt } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';

/** Where we look from; below it are ports that well-known services have. */
const FIRST = 10_000;
/** Where fewer are left below the ephemeral range, as on a server that was tuned for many connections, the kernel chooses. */
const FEW = 1_000;
/** How many ports are tried: on a machine where they are all taken something else is wrong. */
const TRIES = 100;

/** Given away by this run, so that no two servers are told the same. */
const given = new Set();

/**
 * A port on 127.0.0.1 that nobody listens on now, and that the kernel gives to no connection: one of its ephemeral range, free as it
 * may be now, is some connection's own before the server has started.
 */
export async function freePort() {
  for (let tried = 0; tried < TRIES; tried += 1) {
    const port = ephemeral() < FIRST + FEW ? await anyPort() : randomInt(FIRST, ephemeral());
    if (!given.has(port) && await isFree(port)) {
      given.add(port);
      return port;
    }
  }
  throw new Error(`none of ${TRIES} ports between ${FIRST} and ${ephemeral()} is free`);
}

/** The first of the ports that the kernel takes for connections. */
function ephemeral() {
  const [first] = fs.readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').trim().split(/\s+/).map(Number);
  return first;
}

async function anyPort() {
  const server = net.createServer();
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  const { port } = server.address();
  await new Promise((resolve) => { server.close(resolve); });
  return port;
}

async function isFree(port) {
  const server = net.createServer();
  return new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
