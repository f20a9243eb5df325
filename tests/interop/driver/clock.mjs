// The wall clock of every process that is given `env()`: they all jump at once, Talos nodes excepted (they are static).
import fs from 'node:fs';
import path from 'node:path';
import { tool } from './peers.mjs';

export class Clock {
  constructor(dir) {
    this.file = path.join(dir, 'clock');
    this.ahead = 0;
    fs.writeFileSync(this.file, Buffer.alloc(8));
  }

  env() {
    return { LD_PRELOAD: tool('clock.so'), INTEROP_CLOCK: this.file };
  }

  /** Moves the clock `seconds` further. The file is written in place: others have it mapped. */
  forward(seconds) {
    this.ahead += seconds;
    const number = Buffer.alloc(8);
    number.writeBigInt64LE(BigInt(this.ahead));
    const fd = fs.openSync(this.file, 'r+');
    fs.writeSync(fd, number, 0, 8, 0);
    fs.closeSync(fd);
  }
}
