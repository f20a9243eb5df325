// The approvers' page in a real Chromium, as on a phone, through a certified OpenID provider: sign in, look, sign in again, approve;
// and what other sites try. The page's part is done with scripts switched off.
import http from 'node:http';
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { check, has, same } from '../driver/report.mjs';
import { done } from '../driver/processes.mjs';
import { ALIAS, Broker, Person } from '../driver/ichor.mjs';
import { Provider, TalosCluster, tool } from '../driver/peers.mjs';

export const needs = ['talos', 'oidc', 'chromium'];

const policies = `
@id("break") @approvals("1") @max_ttl("30m")
permit (principal in Group::"${ALIAS}/sre", action in [Action::"break-glass:request", Action::"hold:os:admin"], resource);
@id("approve")
permit (principal in Group::"${ALIAS}/dev", action == Action::"break-glass:approve", resource)
when { context has acr && context.acr == "urn:ichor:mfa" && context has auth_age && context.auth_age < 300 };
@id("audit") permit (principal in Group::"${ALIAS}/sre", action == Action::"audit:read", resource);
`;

const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true, ignoreHTTPSErrors: true };

export async function run(dir) {
  const { broker, provider, alice, chromium } = await build(dir);
  try {
    await suite({ broker, provider, alice, chromium });
  } finally {
    await chromium.close();
  }
}

async function suite({ broker, provider, alice, chromium }) {
  await alice.loggedIn({ login: 'alice' });
  let link, id;
  await check('`ichor break-glass request` prints the address of the page', async () => {
    const { stdout } = await alice.does(['break-glass', 'request', 'prod', '--role', 'os:admin', '--reason', 'INC-42 <b>etcd</b> down', '--node', 'node-a']);
    [link, id] = stdout.match(/https:\/\/\S+\/break-glass\/([0-9a-f-]{36})/) ?? [];
    has(link ?? '', `${broker.url}/break-glass/`);
  });

  const phone = await chromium.newContext({ ...PHONE, javaScriptEnabled: false });
  const page = await phone.newPage();
  const asked = new Set();
  const complaints = [];
  page.on('request', (request) => asked.add(new URL(request.url()).origin));
  // the provider's pages are its own affair
  const isOurs = (message) => message.location().url.startsWith(broker.url);
  page.on('console', (message) => { if (message.type() === 'error' && isOurs(message)) complaints.push(`${message.text()} ${message.location().url}`); });
  const text = () => page.locator('body').innerText();

  await check('whoever is not signed in sees how to sign in, and nothing of the request', async () => {
    await page.goto(link);
    const said = await text();
    has(said, 'Sign in to see this request');
    same(/alice|INC-42|admin/.test(said), false, 'anything of the request');
  });

  await check('signing in at the provider leads to the request, with all that it says', async () => {
    await page.getByRole('link', { name: `Sign in through ${ALIAS}` }).tap();
    await signIn(page, provider, 'bob');
    const said = await text();
    for (const part of ['alice asks for os:admin on prod', 'INC-42 <b>etcd</b> down', 'node-a', 'not enforced in direct mode',
      '30 minutes from the last approval on', '0 of 1', '127.0.0.1', 'one certificate']) has(said, part);
    same(await page.getByRole('button', { name: 'Approve exactly this' }).count(), 0, 'buttons to approve');
  });

  await check('the cookie is this host’s alone, of no script, of no other site’s form', async () => {
    const [cookie] = (await phone.cookies(broker.url)).filter((one) => one.name.includes('page'));
    same(cookie.name, '__Host-ichor-page', 'name');
    for (const [key, value] of [['secure', true], ['httpOnly', true], ['sameSite', 'Lax'], ['path', '/']]) same(cookie[key], value, key);
  });

  const decide = `${link}/decide`;
  await check('a link decides nothing, nor does a form that the page did not make', async () => {
    same((await phone.request.get(`${decide}?decision=approve`)).status(), 405, 'GET');
    for (const form of [{ decision: 'approve' }, { decision: 'approve', csrf: '00', sha256: '00' }]) {
      same((await phone.request.post(decide, { form })).status(), 403, 'POST');
    }
    same(await state(alice, id), 'pending', 'state');
  });

  await check('to decide, the provider asks anew, and then the form is there, with names for screen readers', async () => {
    await page.getByRole('link', { name: 'Sign in again to decide' }).tap();
    await signIn(page, provider, 'bob');
    same(await page.getByRole('button', { name: 'Approve exactly this' }).count(), 1, 'buttons to approve');
    same(await page.getByRole('button', { name: 'Deny' }).count(), 1, 'buttons to deny');
    same(await page.getByLabel(/comment/).count(), 1, 'labelled comment');
    same(await page.getByRole('heading', { level: 1 }).count(), 1, 'headings');
    same(await page.getByRole('status').count(), 1, 'status');
  });

  await check('another site’s form, sent by itself, decides nothing while the right form is open', async () => {
    const other = await otherSite(`<form method="post" action="${decide}"><input name="decision" value="approve"></form><script>document.forms[0].submit()</script>`);
    const tab = await phone.browser().newContext({ ...PHONE, storageState: await phone.storageState() });
    try {
      const victim = await tab.newPage();
      const answered = victim.waitForResponse((response) => response.url() === decide);
      await victim.goto(other.url);
      same((await answered).status(), 403, 'answer');
      same(await state(alice, id), 'pending', 'state');
    } finally {
      await tab.close();
      other.close();
    }
  });

  await check('another site cannot frame the page', async () => {
    const other = await otherSite(`<iframe src="${link}" width="400" height="400"></iframe>`);
    const tab = await phone.browser().newContext({ ...PHONE, storageState: await phone.storageState() });
    try {
      const victim = await tab.newPage();
      const refused = victim.waitForEvent('console', (message) => /frame/i.test(message.text()) && message.type() === 'error');
      await victim.goto(other.url);
      has((await refused).text(), /frame-ancestors|X-Frame-Options/);
      same(await victim.frameLocator('iframe').getByText('asks for').count(), 0, 'what the frame shows');
    } finally {
      await tab.close();
      other.close();
    }
  });

  await check('it fits a phone, and is dark where the phone is', async () => {
    const grounds = [];
    for (const colorScheme of ['light', 'dark']) {
      const tab = await phone.browser().newContext({ ...PHONE, colorScheme, storageState: await phone.storageState() });
      const own = await tab.newPage();
      await own.goto(link);
      same(await own.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), true, 'width fits');
      grounds.push(await own.evaluate(() => getComputedStyle(document.body).backgroundColor));
      await tab.close();
    }
    same(grounds[0] === grounds[1], false, `grounds alike (${grounds})`);
  });

  await check('approved by the page: the entry says so, and the requester has what was asked', async () => {
    await page.getByLabel(/comment/).fill('spoke with her');
    await page.getByRole('button', { name: 'Approve exactly this' }).tap();
    // the page's address is the same before and after
    await page.getByText('spoke with her').first().waitFor();
    has(await text(), /1 of 1[\s\S]*spoke with her/);
    same(await state(alice, id), 'approved', 'state');
    const log = JSON.stringify(await alice.json(['audit', 'log', '--kind', 'break-glass-approval']));
    for (const part of ['"channel":"page"', '"acr":"urn:ichor:mfa"', '"auth_time":"', 'spoke with her']) has(log, part);
    await alice.does(['break-glass', 'use', id]);
  });

  await check('signing out ends the session at the broker', async () => {
    const kept = await phone.cookies(broker.url);
    await page.getByRole('button', { name: 'Sign out' }).tap();
    await page.getByRole('heading', { name: 'You are signed out' }).waitFor();
    await phone.addCookies(kept);
    await page.goto(link);
    has(await text(), 'Sign in to see this request');
  });

  await check('nothing was fetched from anywhere else, and nothing was refused by the page’s own policy', async () => {
    same([...asked].sort().join(' '), [broker.url, provider.issuer].sort().join(' '), 'origins');
    same(complaints.join('\n'), '', 'complaints');
  });
}

async function state(person, id) {
  return (await person.json(['break-glass', 'show', id])).state;
}

/** Fills the provider's form, which has no more than a name. */
async function signIn(page, provider, name) {
  await page.waitForURL((url) => url.origin === provider.issuer);
  await page.locator('input[name=login]').fill(name);
  await page.getByRole('button', { name: 'sign in' }).tap();
  await page.waitForURL(/\/break-glass\//);
}

/** A page of a stranger's, on a host of its own: `localhost` is the broker's, by another port the same site. */
async function otherSite(body) {
  const server = http.createServer((_req, res) => {
    res.setHeader('content-type', 'text/html');
    res.end(`<!doctype html><title>other</title>${body}`);
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  return { url: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}

async function build(dir) {
  const broker = await Broker.plan(dir);
  const provider = await Provider.start(dir, [broker.client()]);
  const cluster = await TalosCluster.make(path.join(dir, 'cluster'), 'prod');
  await done(tool('talosctl'), ['--talosconfig', cluster.talosconfig, 'config', 'endpoint', '127.0.0.9']);
  await broker.init(provider, policies);
  await broker.admin(['cluster', 'add', 'prod', '--from', cluster.talosconfig, '--label', 'env=prod', '--reason', 'interop']);
  await broker.admin(['ca', 'create', 'prod', '--reason', 'interop']);
  fs.rmSync(cluster.secrets);
  await broker.start({ log: path.join(dir, 'broker.log') });
  const alice = new Person(path.join(dir, 'alice'), { broker, provider });
  const here = path.dirname(fileURLToPath(import.meta.url));
  const { chromium } = createRequire(path.join(here, '..', 'peers', 'browser', 'package.json'))('playwright-core');
  const browser = await chromium.launch({ executablePath: process.env.INTEROP_CHROMIUM ?? '/usr/bin/chromium', chromiumSandbox: false });
  return { broker, provider, alice, chromium: browser };
}
