// A real OpenID provider (npm oidc-provider) with three people, for the interop suites.
//
//   PORT=0 CLIENTS='[{"client_id":…}]' TLS_CERT=… TLS_KEY=… node provider.mjs
//
// It prints {"issuer":…} when it listens on 127.0.0.1.
//
// Signing in: POST `login=alice` (and `acr=…`, or `abort=1`) to the form that an authorization request ends at. What a
// test may change or ask while it runs is under /control, see `control` below.
import fs from 'node:fs';
import https from 'node:https';
import { generateKeyPairSync } from 'node:crypto';
import Provider, { interactionPolicy } from 'oidc-provider';
import { Memory } from './memory.mjs';

const MFA = 'urn:ichor:mfa';
const PASSWORD = 'urn:ichor:pwd';

const people = {
  alice: { groups: ['sre', 'talos-admins'] },
  bob: { groups: ['dev'] },
  carol: { groups: [] },
};
const disabled = new Set();
const counts = { jwks: 0, grants: {}, failed: {} };
let generation = 0; // of signing keys
let provider, app;

const server = https.createServer(
  { cert: fs.readFileSync(process.env.TLS_CERT), key: fs.readFileSync(process.env.TLS_KEY) },
  route,
);
server.listen(Number(process.env.PORT || 0), '127.0.0.1', () => {
  start();
  console.log(JSON.stringify({ issuer: issuer() }));
});

function issuer() {
  return `https://127.0.0.1:${server.address().port}`;
}

/** Starts the provider with new signing keys. Sessions, grants and tokens live on in `Memory`. */
function start() {
  generation += 1;
  provider = new Provider(issuer(), configuration());
  app = provider.callback();
  provider.on('grant.success', (ctx) => count(counts.grants, ctx));
  provider.on('grant.error', (ctx, error) => {
    count(counts.failed, ctx);
    console.error('grant.error', error.message, error.error_detail || '');
  });
  provider.on('server_error', (_ctx, error) => console.error('server_error', error));
}

function count(into, ctx) {
  const type = ctx.oidc?.params?.grant_type ?? 'unknown';
  into[type] = (into[type] ?? 0) + 1;
}

async function route(req, res) {
  try {
    const path = new URL(req.url, issuer()).pathname;
    if (path.startsWith('/control/')) return await control(req, res, path);
    if (path.startsWith('/interaction/')) return await signIn(req, res);
    if (path === '/jwks') counts.jwks += 1;
    return await app(req, res);
  } catch (error) {
    res.statusCode = 400;
    return res.end(String(error));
  }
}

/**
 * GET  /control/counts           token grants and failures by grant_type, and how often the keys were fetched
 * POST /control/rotate-keys      new signing keys; the old ones are no longer published
 * POST /control/people/NAME      {"disabled": bool, "groups": […]}: someone leaves, or changes groups
 */
async function control(req, res, path) {
  const person = path.match(/^\/control\/people\/(\w+)$/)?.[1];
  if (req.method === 'POST' && path === '/control/rotate-keys') {
    start();
  } else if (req.method === 'POST' && people[person]) {
    const change = JSON.parse(await body(req));
    if (change.groups) people[person].groups = change.groups;
    if (change.disabled === true) disabled.add(person);
    if (change.disabled === false) disabled.delete(person);
  } else if (!(req.method === 'GET' && path === '/control/counts')) {
    res.statusCode = 404;
  }
  res.setHeader('content-type', 'application/json');
  res.end(JSON.stringify(counts));
}

/** The login form, and consent given unasked: the broker is first-party. */
async function signIn(req, res) {
  const { prompt } = await provider.interactionDetails(req, res);
  if (prompt.name === 'consent') {
    return provider.interactionFinished(req, res, { consent: {} }, { mergeWithLastSubmission: true });
  }
  if (req.method === 'POST') {
    const form = new URLSearchParams(await body(req));
    if (form.has('abort')) {
      return provider.interactionFinished(req, res, { error: 'access_denied', error_description: 'aborted' });
    }
    const accountId = form.get('login');
    if (people[accountId] && !disabled.has(accountId)) {
      const acr = form.get('acr') || MFA;
      const amr = acr === MFA ? ['pwd', 'otp'] : ['pwd'];
      return provider.interactionFinished(req, res, { login: { accountId, acr, amr, remember: true } });
    }
  }
  res.setHeader('content-type', 'text/html');
  return res.end(`<!doctype html><title>sign in</title>
<form method="post"><input name="login" autofocus><button type="submit">sign in</button></form>`);
}

async function body(req) {
  let text = '';
  for await (const chunk of req) text += chunk;
  return text;
}

function account(id) {
  if (!people[id] || disabled.has(id)) return undefined;
  return {
    accountId: id,
    claims: async () => ({
      sub: id, name: id, preferred_username: id,
      email: `${id}@example.test`, email_verified: true,
      groups: people[id].groups,
    }),
  };
}

function signingKey(alg, type, options) {
  const { privateKey } = generateKeyPairSync(type, options);
  return { ...privateKey.export({ format: 'jwk' }), alg, use: 'sig', kid: `${alg}-${generation}` };
}

function configuration() {
  return {
    adapter: Memory,
    clients: JSON.parse(process.env.CLIENTS || '[]'),
    jwks: { keys: [signingKey('RS256', 'rsa', { modulusLength: 2048 }), signingKey('ES256', 'ec', { namedCurve: 'P-256' })] },
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256'] },
    scopes: ['openid', 'offline_access', 'profile', 'email', 'groups'],
    claims: {
      openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'preferred_username'], groups: ['groups'],
      acr: null, amr: null, auth_time: null, sid: null, iss: null,
    },
    acrValues: [MFA, PASSWORD],
    conformIdTokenClaims: false, // scope claims in the ID token itself, as Dex, Keycloak and Entra do
    pkce: { required: () => true },
    cookies: { keys: ['for tests only'] },
    ttl: {
      AccessToken: 300, AuthorizationCode: 30, Grant: 3600, IdToken: 300, Interaction: 600, RefreshToken: 3600, Session: 3600,
    },
    rotateRefreshToken: true,
    issueRefreshToken: async (_ctx, client, code) =>
      client.grantTypeAllowed('refresh_token') && code.scopes.has('offline_access'),
    features: {
      devInteractions: { enabled: false },
      revocation: { enabled: true },
      claimsParameter: { enabled: true },
    },
    findAccount: async (_ctx, id) => account(id),
    interactions: { policy: interactionPolicy.base(), url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    loadExistingGrant: async (ctx) => {
      const { client, session, requestParamScopes } = ctx.oidc;
      const grant = new ctx.oidc.provider.Grant({ clientId: client.clientId, accountId: session.accountId });
      grant.addOIDCScope([...requestParamScopes].join(' '));
      await grant.save();
      return grant;
    },
    renderError: async (ctx, out) => {
      ctx.type = 'json';
      ctx.body = out;
    },
  };
}
