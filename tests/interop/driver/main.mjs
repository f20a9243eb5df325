// Runs the suites named on the command line, or all.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { check, skip, summary, title } from './report.mjs';
import { endAll } from './processes.mjs';

const suites = ['talos', 'talosapi', 'oidc', 'parity', 'durability', 'keyring', 'openbao', 'custody', 'audit', 'nodelog', 'break-glass', 'kit', 'browser', 'postgres'];
const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !suites.includes(name));
if (unknown.length > 0) {
  console.error(`interop: no suite ${unknown.join(', ')}; there are ${suites.join(', ')}`);
  process.exit(2);
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, async () => {
    await endAll();
    process.exit(130);
  });
}

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'ichor-interop-'));
// What `run` could not have from a registry, with the reason: `talos=…` lines.
const missing = Object.fromEntries((process.env.INTEROP_MISSING ?? '').split('\n').filter(Boolean).map((l) => l.split(/=(.*)/s)));

for (const name of asked.length > 0 ? asked : suites) {
  title(name);
  const suite = await import(`../suites/${name}.mjs`);
  const lacking = suite.needs.find((peer) => missing[peer]);
  if (lacking) {
    skip(`suite ${name}`, `the peer ${lacking} is not to be had: ${missing[lacking]}`);
    continue;
  }
  const own = path.join(dir, name);
  fs.mkdirSync(own);
  try {
    await suite.run(own);
  } catch (error) {
    await check(`suite ${name} runs to its end`, () => { throw error; });
  }
  await endAll();
}

const code = summary();
if (code === 0) fs.rmSync(dir, { recursive: true, force: true });
else console.log(`interop: logs are kept in ${dir}`);
process.exit(code);
