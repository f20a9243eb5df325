// Requests with a session's token and proofs made by hand (RFC 9449), for what a well-behaved client never sends.
import crypto from 'node:crypto';
import fs from 'node:fs';
import https from 'node:https';
import path from 'node:path';

/** A P-256 key that makes proofs. */
export class ProofKey {
  static made() {
    return new ProofKey(crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey);
  }

  constructor(key) {
    this.key = key;
    const { crv, kty, x, y } = crypto.createPublicKey(key).export({ format: 'jwk' });
    this.jwk = { kty, crv, x, y };
  }

  thumbprint() {
    const { crv, kty, x, y } = this.jwk;
    return sha256(JSON.stringify({ crv, kty, x, y }));
  }

  proof({ method, url, token, nonce, body }) {
    const header = { typ: 'dpop+jwt', alg: 'ES256', jwk: this.jwk };
    const claims = {
      jti: crypto.randomUUID(), htm: method, htu: url, iat: Math.floor(Date.now() / 1000), nonce,
      ...(token && { ath: sha256(token) }), ...(body !== undefined && { body_sha256: sha256(body) }),
    };
    const signed = `${part(header)}.${part(claims)}`;
    const signature = crypto.sign('sha256', Buffer.from(signed), { key: this.key, dsaEncoding: 'ieee-p1363' });
    return `${signed}.${signature.toString('base64url')}`;
  }
}

/** The session that a person's client keeps: {token, key}. */
export function keptSession(home) {
  const found = fs.readdirSync(home, { recursive: true })
    .filter((name) => /sessions?\/[0-9a-f]+\.json$/.test(String(name)))
    .map((name) => JSON.parse(fs.readFileSync(path.join(home, name), 'utf8')))
    .find((kept) => kept.token);
  if (!found) throw new Error(`no session is kept in ${home}`);
  const key = crypto.createPrivateKey({ key: Buffer.from(found.key, 'base64'), format: 'der', type: 'pkcs8' });
  return { token: found.token, key: new ProofKey(key) };
}

/** A request to the broker at this port, whose name is `url`'s: {status, nonce, body}. */
export function send({ port, ca, url, method = 'GET', headers = {}, body }) {
  const target = new URL(url);
  return new Promise((resolve, reject) => {
    const request = https.request({
      host: '127.0.0.1', port, servername: target.hostname, ca: fs.readFileSync(ca), method, agent: false, timeout: 60_000,
      path: `${target.pathname}${target.search}`,
      headers: { host: target.host, ...headers, ...(body !== undefined && { 'content-length': Buffer.byteLength(body) }) },
    }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (d) => { text += d; });
      response.on('end', () => resolve({ status: response.statusCode, nonce: response.headers['dpop-nonce'], headers: response.headers, body: text }));
    });
    request.on('timeout', () => request.destroy(new Error(`${url}: no answer`)));
    request.on('error', reject);
    request.end(body);
  });
}

function part(value) {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

export function sha256(text) {
  return crypto.createHash('sha256').update(text).digest('base64url');
}
