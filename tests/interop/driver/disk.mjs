// A small disk of our own: a tmpfs, gone with the driver that mounted it.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { done, run } from './processes.mjs';

export class Disk {
  /** Mounts `kib` KiB at `dir`, with what lay there before. Throws where this machine lets nobody mount. */
  static async mount(dir, kib) {
    const before = `${dir}-before`;
    fs.renameSync(dir, before);
    fs.mkdirSync(dir, { mode: fs.statSync(before).mode & 0o7777 });
    const disk = Object.assign(new Disk(), { dir });
    await done('mount', ['-t', 'tmpfs', '-o', `size=${kib}k,mode=0${(fs.statSync(before).mode & 0o777).toString(8)}`, 'ichor-interop', dir]);
    process.on('exit', () => disk.unmountNow());
    for (const name of fs.readdirSync(before)) {
      const from = path.join(before, name);
      if (fs.lstatSync(from).isFile()) fs.cpSync(from, path.join(dir, name));
    }
    return disk;
  }

  /** From now on it has so much room. */
  async resize(kib) {
    await done('mount', ['-o', `remount,size=${kib}k`, this.dir]);
  }

  /** Bytes that are free. */
  free() {
    const { bavail, bsize } = fs.statfsSync(this.dir);
    return bavail * bsize;
  }

  /** Fills what is free with a file. */
  fill() {
    const file = path.join(this.dir, 'ballast');
    const into = fs.openSync(file, 'w');
    try {
      for (;;) fs.writeSync(into, Buffer.alloc(4096));
    } catch (error) {
      if (error.code !== 'ENOSPC') throw error;
    } finally {
      fs.closeSync(into);
    }
    return { taken: () => fs.rmSync(file) };
  }

  async unmount() {
    await run('umount', ['-l', this.dir]);
    this.gone = true;
  }

  unmountNow() {
    if (!this.gone) spawnSync('umount', ['-l', this.dir]);
  }
}
