// A browser made of HTTP requests: it keeps cookies, follows redirects and sends forms, and nothing else.
import http from 'node:http';
import https from 'node:https';

export class Browser {
  /** `roots` are PEM certificates that it trusts. */
  constructor(roots) {
    this.roots = roots;
    this.cookies = new Map(); // origin host → name → value
    this.visited = []; // every URL asked for
  }

  /** Opens `url` and follows redirects to the first page: {status, url, headers, body}. */
  async open(url, options = {}) {
    let next = { url: String(url), ...options };
    for (let hops = 0; hops < 20; hops += 1) {
      const page = await this.request(next);
      const location = page.headers.location;
      if (page.status < 300 || page.status > 399 || !location) return page;
      next = { url: new URL(location, page.url).href };
    }
    throw new Error(`more than 20 redirects from ${url}`);
  }

  /** Sends the page's first form as its first button would, with `fields` filled in. */
  async submit(page, fields = {}) {
    const form = forms(page.body)[0];
    if (!form) throw new Error(`no form on ${page.url}\n${page.body.slice(0, 2000)}`);
    const body = new URLSearchParams({ ...form.fields, ...fields }).toString();
    const url = new URL(form.action || page.url, page.url).href;
    return this.open(url, { method: form.method, body, origin: new URL(page.url).origin });
  }

  request({ url, method = 'GET', body, origin }) {
    const target = new URL(url);
    this.visited.push(url);
    const headers = { 'user-agent': 'interop browser', accept: 'text/html' };
    const jar = this.cookies.get(target.host);
    if (jar?.size) headers.cookie = [...jar].map(([k, v]) => `${k}=${v}`).join('; ');
    if (body !== undefined) {
      headers['content-type'] = 'application/x-www-form-urlencoded';
      headers['content-length'] = Buffer.byteLength(body);
      headers.origin = origin;
      headers['sec-fetch-site'] = 'same-origin';
    }
    return new Promise((resolve, reject) => {
      const client = target.protocol === 'https:' ? https : http;
      // a connection for each request: the next one may go to another broker
      const request = client.request(target, { method, headers, ca: this.roots, timeout: 30_000, agent: false }, (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (d) => { text += d; });
        response.on('end', () => {
          this.keep(target.host, response.headers['set-cookie'] ?? []);
          resolve({ status: response.statusCode, url, headers: response.headers, body: text });
        });
      });
      request.on('timeout', () => request.destroy(new Error(`${url}: no answer`)));
      request.on('error', reject);
      request.end(body);
    });
  }

  keep(host, lines) {
    if (!this.cookies.has(host)) this.cookies.set(host, new Map());
    const jar = this.cookies.get(host);
    for (const line of lines) {
      const [, name, value] = line.match(/^([^=]+)=([^;]*)/) ?? [];
      const gone = /max-age=0\b/i.test(line) || /expires=thu, 01 jan 1970/i.test(line);
      if (gone) jar.delete(name);
      else if (name) jar.set(name, value);
    }
  }
}

/** The forms of a page: {method, action, fields} with the fields' given values and the first button's. */
export function forms(html) {
  return [...html.matchAll(/<form\b([^>]*)>([\s\S]*?)<\/form>/gi)].map(([, head, inside]) => {
    const fields = {};
    for (const [, tag] of inside.matchAll(/<input\b([^>]*)>/gi)) {
      const name = attribute(tag, 'name');
      if (name && attribute(tag, 'type') !== 'submit') fields[name] = attribute(tag, 'value') ?? '';
    }
    const [, button] = inside.match(/<button\b([^>]*)>/i) ?? [];
    const pressed = button && attribute(button, 'name');
    if (pressed) fields[pressed] = attribute(button, 'value') ?? '';
    return { method: (attribute(head, 'method') ?? 'GET').toUpperCase(), action: attribute(head, 'action'), fields };
  });
}

/** A page's text without markup. */
export function words(html) {
  return unescape(html.replace(/<(style|script)[\s\S]*?<\/\1>/gi, ' ').replace(/<[^>]+>/g, ' ')).replace(/\s+/g, ' ').trim();
}

function attribute(tag, name) {
  const match = tag.match(new RegExp(`(?:^|\\s)${name}\\s*=\\s*(?:"([^"]*)"|'([^']*)'|([^\\s>]+))`, 'i'));
  return match && unescape(match[1] ?? match[2] ?? match[3]);
}

function unescape(text) {
  const named = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };
  return text.replace(/&(?:#(\d+)|#x([0-9a-f]+)|(\w+));/gi, (whole, dec, hex, name) =>
    dec ? String.fromCodePoint(Number(dec)) : hex ? String.fromCodePoint(parseInt(hex, 16)) : named[name] ?? whole);
}
