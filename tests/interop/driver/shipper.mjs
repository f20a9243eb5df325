// Plays the log sender of a Talos node, as its source says it works: each service's log is read line by line with a limit of
// 64 KiB, beyond which that service is sent no more; a line is trimmed; JSON in it, or at its end, is taken for fields, its
// `time` for the time; and each line goes out as one JSON object and a newline, keys sorted, from the node's own address.
import fs from 'node:fs';
import net from 'node:net';

const LIMIT = 64 * 1024;

export class Shipper {
  /** Sends what the logs have from now on: `logs` by service. */
  static async start({ from, to, logs, tags = {} }) {
    const shipper = new Shipper();
    shipper.tags = tags;
    shipper.stopped = new Set();
    shipper.socket = net.connect({ host: to.host, port: to.port, localAddress: from });
    await new Promise((resolve, reject) => {
      shipper.socket.once('connect', resolve);
      shipper.socket.once('error', reject);
    });
    shipper.socket.on('error', () => {});
    shipper.open = Object.entries(logs).map(([service, file]) => ({ service, fd: fs.openSync(file, 'r'), at: fs.statSync(file).size, rest: Buffer.alloc(0) }));
    shipper.timer = setInterval(() => shipper.open.forEach((log) => shipper.read(log)), 20);
    return shipper;
  }

  read(log) {
    if (this.stopped.has(log.service)) return;
    const size = fs.fstatSync(log.fd).size;
    if (size <= log.at) return;
    const chunk = Buffer.alloc(size - log.at);
    fs.readSync(log.fd, chunk, 0, chunk.length, log.at);
    log.at = size;
    let rest = Buffer.concat([log.rest, chunk]);
    for (let end = rest.indexOf(10); end >= 0 && !this.stopped.has(log.service); end = rest.indexOf(10)) {
      if (end >= LIMIT) this.stopped.add(log.service);
      else this.line(log.service, rest.subarray(0, end).toString().trim());
      rest = rest.subarray(end + 1);
    }
    log.rest = rest;
  }

  line(service, text) {
    if (text === '') return;
    const { message, fields, time } = parsed(text);
    const event = { ...fields, 'talos-service': service, msg: message, 'talos-time': time, 'talos-level': 'info', ...this.tags };
    const sorted = Object.fromEntries(Object.entries(event).sort(([a], [b]) => (a < b ? -1 : 1)));
    this.socket.write(`${JSON.stringify(sorted)}\n`);
  }

  stop() {
    clearInterval(this.timer);
    this.socket.destroy();
    this.open.forEach((log) => fs.closeSync(log.fd));
  }
}

function parsed(text) {
  const now = new Date().toISOString();
  const at = text.indexOf('{');
  for (const from of [0, ...(at > 0 ? [at] : [])]) {
    let fields;
    try {
      fields = JSON.parse(text.slice(from));
    } catch {
      continue;
    }
    if (fields === null || typeof fields !== 'object' || Array.isArray(fields)) continue;
    const { msg, time, ts, ...more } = fields;
    const said = typeof msg === 'string' ? msg.trim() : '';
    const stamp = time ?? (typeof ts === 'number' ? new Date(ts * 1000).toISOString() : ts);
    return { message: [text.slice(0, from).trim(), said].filter(Boolean).join(' '), fields: more, time: stamp ?? now };
  }
  return { message: text, fields: {}, time: now };
}
