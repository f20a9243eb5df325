// The part of suite `postgres` about TLS: the server shows a certificate and wants one, and neither side takes another's.
import fs from 'node:fs';
import path from 'node:path';
import { check, has, same } from '../driver/report.mjs';
import { ask } from '../driver/ledger.mjs';
import { tlsFor } from '../driver/peers.mjs';

/** Nobody is connected; the server is started again with TLS, and afterwards without. */
export async function overTls(world, server, database) {
  const { brokers } = world;
  const { first, balancer } = brokers;
  // the server's user reads its files, so they lie in its folder
  const made = (name, options) => tlsFor(server.dir, name, options);
  const own = { usage: 'clientAuth', subject: 'ichor' };
  const [shown, client, stranger, namesake] = [
    await made('server', { names: 'IP:127.0.0.1' }), await made('client', own), await made('stranger', own),
    await made('namesake', { ...own, subject: 'someone-else', ca: 'client' }),
  ];
  const [urlFile, config] = ['database-url', 'config.toml'].map((name) => path.join(first.dir, name));
  const [plain, socket] = [fs.readFileSync(config, 'utf8'), fs.readFileSync(urlFile)];
  await server.stop();
  server.tls = { certificate: shown.certificate, key: shown.key, clientCa: client.ca };
  await server.again();

  /** Has the folder name the server by TLS. */
  const named = ({ ca = shown.ca, by = client, host = '127.0.0.1', mode = '' }) => {
    const keys = [`ca_file = "${ca}"`, ...(by ? [`certificate = "${by.certificate}"`, `key = "${by.key}"`] : [])];
    fs.writeFileSync(config, plain.replace(/^\[store\]$/m, `[store]\n${keys.join('\n')}`));
    fs.writeFileSync(urlFile, `postgres://ichor@${host}:${server.port}/${database}${mode}`, { mode: 0o600 });
  };

  await check('over TLS, both sides verified, a certificate is issued; the server knows the broker by its certificate', async () => {
    named({});
    await first.admin(['check']);
    await brokers.start(0);
    balancer.to(0);
    same((await ask(world)).result.code, 0, 'exit codes');
    const seen = await server.sql('postgres', 'SELECT DISTINCT ssl, version, client_dn FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_addr IS NOT NULL');
    same(seen, 't|TLSv1.3|/CN=ichor', 'connections of the broker');
    await first.process.end();
  });
  for (const [what, how, words] of [
    ['a server of a CA that was not named', { ca: stranger.ca }, /certificate|UnknownIssuer/],
    ['a server under another name than its certificate has', { host: 'localhost' }, /certificate|NotValidForName/],
    ['no client certificate', { by: null }, /certificate/],
    ['a client certificate of another CA', { by: stranger }, /certificate|alert|UnknownCA/],
    ['a client certificate of another name', { by: namesake }, /certificate authentication failed|someone-else/],
    ['no TLS', { mode: '?sslmode=disable' }, /pg_hba|encryption/],
  ]) {
    await check(`with ${what} the broker does not start, and says so`, async () => {
      named(how);
      for (const args of [['audit', 'verify'], ['serve']]) {
        const said = await first.refuses(args);
        has(said, words, args.join(' '));
        if (args[0] === 'serve') console.log(`        ${said.trim().split('\n').at(-1)}`);
      }
    });
  }
  fs.writeFileSync(config, plain);
  fs.writeFileSync(urlFile, socket, { mode: 0o600 });
  await server.stop();
  server.tls = undefined;
  await server.again();
}
