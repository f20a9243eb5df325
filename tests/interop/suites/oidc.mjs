// The broker towards a certified OpenID provider: what it asks for, and what it makes of the answers, over a session's life.
// Broker, client and provider share a clock that the suite moves: groups older than five minutes are asked again.
import fs from 'node:fs';
import path from 'node:path';
import { check, has, lacks, same } from '../driver/report.mjs';
import { done } from '../driver/processes.mjs';
import { ALIAS, Broker, Person } from '../driver/ichor.mjs';
import { Clock } from '../driver/clock.mjs';
import { Provider, TalosCluster, tool } from '../driver/peers.mjs';

export const needs = ['talos', 'oidc'];

/** More than the five minutes after which groups are asked again. */
const GROUPS_ARE_OLD = 6 * 60;

const policies = `
@id("read") @max_ttl("8h")
permit (principal in Group::"${ALIAS}/sre", action == Action::"hold:os:reader", resource in Label::"env=prod");
@id("administer") @max_ttl("15m") @hint("sign in again with your second factor")
permit (principal in Group::"${ALIAS}/talos-admins", action == Action::"hold:os:admin", resource in Label::"env=prod")
when { context has acr && context.acr == "urn:ichor:mfa" && context has auth_age && context.auth_age < 600 };
`;

export async function run(dir) {
  const world = await build(dir);
  const { provider, clock, broker } = world;
  const person = (name) => new Person(path.join(dir, name), world);
  const counts = (browser) => provider.control(browser, 'counts');
  let files = 0;
  // With a reason, for the client would otherwise use a certificate that it has.
  const asks = (who, ...args) =>
    ['talosconfig', 'prod', '--reason', 'interop', '--talosconfig', path.join(who.home, `config-${files += 1}`), ...args];

  const alice = person('alice');
  await check('code + PKCE + state + nonce towards the provider, and its answer names its issuer', async () => {
    await alice.loggedIn({ login: 'alice' });
    const sent = alice.browser.visited.find((url) => url.startsWith(`${provider.issuer}/auth?`));
    const query = new URL(sent).searchParams;
    same(query.get('code_challenge_method'), 'S256', 'PKCE methods');
    same(query.get('response_type'), 'code', 'response types');
    for (const key of ['code_challenge', 'state', 'nonce', 'max_age', 'acr_values']) same(query.has(key), true, key);
    const back = new URL(alice.browser.visited.find((url) => url.startsWith(broker.client().redirect_uris[0]))).searchParams;
    same(back.get('iss'), provider.issuer, 'iss');
    const own = new URL(alice.browser.visited[0]).searchParams;
    for (const key of ['code_challenge', 'state', 'dpop_jkt']) same(own.has(key), true, key);
    same(own.get('state') === query.get('state') || own.get('code_challenge') === query.get('code_challenge'), false, 'values passed on');
  });

  await check('the session knows who it is, with groups, acr and auth_time from the provider', async () => {
    const status = JSON.stringify(await alice.json(['status']));
    for (const part of ['alice@example.test', 'talos-admins', 'urn:ichor:mfa', provider.issuer]) has(status, part);
  });

  await check('a login that the person breaks off at the provider gives no session', async () => {
    const mallory = person('broken-off');
    const result = await mallory.login({ abort: '1' });
    if (result.code === 0) throw new Error(result.text);
    has(await mallory.fails(asks(mallory)), 'ichor login');
  });

  await check('a login that is not confirmed gives no session', async () => {
    const hesitant = person('hesitant');
    const result = await hesitant.login({ login: 'alice' }, { confirm: () => false });
    same(result.code, 'waiting', 'how the client ends');
    has(await hesitant.fails(asks(hesitant)), 'ichor login');
  });

  await check('50 requests at once, with old groups, refresh at the provider exactly once', async () => {
    await alice.does(asks(alice));
    const before = await counts(alice.browser);
    clock.forward(GROUPS_ARE_OLD);
    const results = await Promise.all(Array.from({ length: 50 }, () => alice.ichor(asks(alice))));
    const bad = results.filter((r) => r.code !== 0);
    if (bad.length > 0) throw new Error(`${bad.length} of 50 failed, one with: ${bad[0].text}`);
    const after = await counts(alice.browser);
    same((after.grants.refresh_token ?? 0) - (before.grants.refresh_token ?? 0), 1, 'refreshes');
    same(after.failed, before.failed, 'failed grants');
  });

  await check('the provider changes its keys: the broker fetches them once and goes on', async () => {
    const before = await provider.control(alice.browser, 'rotate-keys', {});
    clock.forward(GROUPS_ARE_OLD);
    await alice.does(asks(alice));
    await alice.does(asks(alice));
    const after = await counts(alice.browser);
    same(after.jwks > before.jwks && after.jwks <= before.jwks + 2, true, `fetches of the keys (${after.jwks - before.jwks})`);
  });

  await check('a refresh does not make the sign-in younger: a policy on auth_time refuses', async () => {
    const text = await alice.fails(asks(alice, '--role', 'os:admin'));
    has(text, 'sign in again with your second factor');
    await alice.does(asks(alice));
  });
  await check('a new sign-in with a second factor is granted', async () => {
    await alice.loggedIn({ login: 'alice', acr: 'urn:ichor:mfa' }, { flags: ['--fresh'] });
    await alice.does(asks(alice, '--role', 'os:admin'));
  });
  await check('a sign-in with a password only is refused where policy wants more', async () => {
    const weak = person('weak');
    await weak.loggedIn({ login: 'alice', acr: 'urn:ichor:pwd' });
    has(await weak.fails(asks(weak, '--role', 'os:admin')), 'sign in again with your second factor');
  });

  const bob = person('bob');
  await check('someone who joins a group may do more within minutes, without a new login', async () => {
    await bob.loggedIn({ login: 'bob' });
    await bob.fails(asks(bob));
    await provider.control(bob.browser, 'people/bob', { groups: ['dev', 'sre'] });
    clock.forward(GROUPS_ARE_OLD);
    await bob.does(asks(bob));
  });
  await check('someone who left gets nothing new within minutes, and coming back does not revive the session', async () => {
    await provider.control(bob.browser, 'people/bob', { disabled: true });
    clock.forward(GROUPS_ARE_OLD);
    has(await bob.fails(asks(bob)), 'ichor login');
    await provider.control(bob.browser, 'people/bob', { disabled: false });
    has(await bob.fails(asks(bob)), 'ichor login');
  });

  await check('a session ends after twelve hours', async () => {
    clock.forward(12 * 3600);
    const text = await alice.fails(asks(alice));
    has(text, /expired|ended/);
    has(text, 'ichor login');
  });

  await check('the provider gone: no stale yes, and the session outlives it', async () => {
    const carol = person('carol');
    await provider.control(carol.browser, 'people/carol', { groups: ['sre'] });
    await carol.loggedIn({ login: 'carol' });
    clock.forward(GROUPS_ARE_OLD);
    await provider.process.end();
    const text = await carol.fails(asks(carol));
    lacks(text, 'ichor login');
    has(text, /provider/);
    await carol.does(['status']);
  });
}

async function build(dir) {
  const clock = new Clock(dir);
  const broker = await Broker.plan(dir);
  const provider = await Provider.start(dir, [broker.client()], { clock });
  const cluster = await TalosCluster.make(path.join(dir, 'cluster'), 'prod');
  await done(tool('talosctl'), ['--talosconfig', cluster.talosconfig, 'config', 'endpoint', '127.0.0.9']);
  await broker.init(provider, policies);
  await broker.admin(['cluster', 'add', 'prod', '--from', cluster.talosconfig, '--label', 'env=prod', '--reason', 'interop']);
  await broker.admin(['ca', 'create', 'prod', '--reason', 'interop']);
  fs.rmSync(cluster.secrets);
  await broker.start({ clock, log: path.join(dir, 'broker.log') });
  return { clock, broker, provider, cluster };
}
