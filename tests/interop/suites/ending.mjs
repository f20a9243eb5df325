// How access ends: the certificate expires, or its CA leaves `machine.acceptedCAs`. Both act on new connections.
import path from 'node:path';
import { check, has, lacks, same } from '../driver/report.mjs';
import { Background, eventually, run as execute } from '../driver/processes.mjs';
import { tool } from '../driver/peers.mjs';

export async function ending({ alice, broker, cluster, nodes }) {
  const [node] = nodes;
  const endpoint = `${node.address}:50000`;
  const call = async (talosconfig) => JSON.parse((await execute(tool('call'), [talosconfig, endpoint, 'Version'])).stdout);

  await check('an expired certificate is refused, and talosctl says so as Talos does', async () => {
    const old = await cluster.made('expired', ['-o', 'os:reader|user:alice@example.test', '-nb', '-2h', '-na', '-1h']);
    // Which of the two depends on who closes first.
    await eventually(async () => {
      const result = await alice.talosctl(['--talosconfig', old, 'version']);
      has(result.text, /expired certificate|broken pipe|connection reset/);
      lacks(result.text, /SHA: +stub/);
    });
  });

  const own = path.join(alice.home, 'own');
  await alice.does(['talosconfig', 'prod', '--talosconfig', own, '--set-current']);
  const foreign = await cluster.made('foreign', ['-signer', cluster.foreign, '-o', 'os:reader|user:someone']);
  const open = new Background('call -again', tool('call'), ['-again', own, endpoint, 'Version']);
  await open.says(/"code":"OK"/);

  await check('the removal patch takes our CA out and leaves other people\'s', async () => {
    const written = await broker.admin(['ca', 'removal-patch', 'prod', '--machine-config', cluster.trusting, '--output', cluster.dir]);
    const patches = [...written.stdout.matchAll(/--patch @(\S+?\.yaml)/g)].map((match) => match[1]);
    same(patches.length, 2, 'how many patches the printed command has');
    const removed = await cluster.patchFrom(cluster.trusting, patches.map((file) => `@${path.resolve(cluster.dir, file)}`), 'removed.yaml');
    for (const each of nodes) has(await each.apply(removed), '2 accepted');
  });
  await check('after it a new connection with our certificate is refused', async () => {
    await eventually(async () => same((await call(own)).code, 'Unavailable', 'codes'));
  });
  await check('someone else\'s CA still works', async () => {
    same((await call(foreign)).code, 'OK', 'codes');
  });
  await check('a connection that was open goes on, as the documentation says', async () => {
    const from = open.text.length;
    open.child.stdin.write('\n');
    const [line] = await open.says(/\{.*\}/, { from });
    same(JSON.parse(line).code, 'OK', 'codes');
  });
  await check('ichor doctor names the reason and the patch', async () => {
    const result = await alice.ichor(['doctor', 'prod']);
    if (result.code === 0) throw new Error(result.text);
    has(result.text, 'acceptedCAs');
  });
  await open.end();
}
