// Programs that we start. Every one of them is ended, by its own pid, whichever way the driver ends.
import { spawn } from 'node:child_process';
import fs from 'node:fs';

const running = new Set();

/** Runs a program to its end: {code, stdout, stderr, text}. Throws after `seconds`. */
export function run(program, args, { env, input, cwd, seconds = 60 } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env: env ?? process.env, cwd, stdio: ['pipe', 'pipe', 'pipe'] });
    running.add(child);
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (d) => { stdout += d; });
    child.stderr.on('data', (d) => { stderr += d; });
    child.stdin.on('error', () => {});
    child.stdin.end(input ?? '');
    const name = `${program} ${args.join(' ')}`;
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`${name}: still running after ${seconds} s\n${stdout}${stderr}`));
    }, seconds * 1000);
    child.on('error', (error) => { clearTimeout(timer); running.delete(child); reject(error); });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      running.delete(child);
      resolve({ name, code: code ?? signal, stdout, stderr, text: stdout + stderr });
    });
  });
}

/** As `run`, and throws unless the program ends with 0. */
export async function done(program, args, options) {
  const result = await run(program, args, options);
  if (result.code !== 0) throw new Error(`${result.name}: exit code ${result.code}\n${result.text}`);
  return result;
}

/** A program that goes on in the background, its output in a file as well. */
export class Background {
  constructor(name, program, args, { env, log, cwd } = {}) {
    this.name = name;
    this.text = '';
    this.waiting = [];
    this.child = spawn(program, args, { env: env ?? process.env, cwd, stdio: ['pipe', 'pipe', 'pipe'] });
    this.child.stdin.on('error', () => {});
    const file = log && fs.createWriteStream(log);
    const take = (data) => { this.text += data; file?.write(data); this.wake(); };
    this.child.stdout.on('data', take);
    this.child.stderr.on('data', take);
    this.exit = new Promise((resolve) => {
      this.child.on('error', (error) => { take(`${error}\n`); this.code = 'error'; resolve(this.code); this.wake(); });
      this.child.on('close', (code, signal) => {
        running.delete(this.child);
        this.code = code ?? signal;
        this.wake();
        resolve(this.code);
      });
    });
    running.add(this.child);
  }

  /** The first match of `pattern` in what the program has printed since `from`. Throws if it ends first, or after `seconds`. */
  async says(pattern, { from = 0, seconds = 30 } = {}) {
    const deadline = Date.now() + seconds * 1000;
    for (;;) {
      const match = this.text.slice(from).match(pattern);
      if (match) return match;
      if (this.code !== undefined) throw new Error(`${this.name} ended with ${this.code} before it said ${pattern}\n${this.text}`);
      const left = deadline - Date.now();
      if (left <= 0) throw new Error(`${this.name} did not say ${pattern} within ${seconds} s\n${this.text}`);
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, left);
        this.waiting.push(() => { clearTimeout(timer); resolve(); });
      });
    }
  }

  wake() {
    for (const resolve of this.waiting.splice(0)) resolve();
  }

  /** Ends it with SIGTERM, after ten seconds with SIGKILL. */
  async end() {
    if (this.code !== undefined) return this.code;
    this.child.kill('SIGTERM');
    const timer = setTimeout(() => this.child.kill('SIGKILL'), 10_000);
    const code = await this.exit;
    clearTimeout(timer);
    return code;
  }
}

/** Tries `body` until it returns, for at most `seconds`; for what another process does in its own time. */
export async function eventually(body, seconds = 15) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    try {
      return await body();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

/** Ends whatever is left. */
export async function endAll() {
  const left = [...running];
  for (const child of left) child.kill('SIGTERM');
  const deadline = Date.now() + 10_000;
  while (running.size > 0 && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 50));
  for (const child of running) child.kill('SIGKILL');
}
