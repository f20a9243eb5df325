// What a client got, held against what the log has: nobody may hold a certificate that the log lacks.
import { X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { credentials } from './ichor.mjs';
import { same } from './report.mjs';

/** Asks for a certificate in a file of its own, with a reason that names the request in the log. */
export async function ask({ alice, attempts, dir, label = 'request' }) {
  const reason = `${label} ${attempts.length}`;
  const file = path.join(dir, `talosconfig-${attempts.length}`);
  const attempt = { reason, file };
  attempts.push(attempt); // before its end, for there may be others meanwhile
  attempt.result = await alice.ichor(['talosconfig', 'prod', '--reason', reason, '--talosconfig', file]);
  return attempt;
}

/** The whole log, oldest first. */
export async function log({ alice }) {
  const found = [];
  for (const kind of ['grant', 'issued']) {
    const printed = await alice.json(['audit', 'log', '--kind', kind, '--all']);
    found.push(...(printed.entries ?? printed));
  }
  return found.sort((a, b) => a.index - b.index);
}

/** Holds what the client has against the log, and counts where requests without a certificate had come to. */
export function compare(attempts, entries) {
  const counts = { held: 0, 'no grant': 0, 'grant alone': 0, 'certificate unanswered': 0 };
  for (const { reason, file, result } of attempts) {
    const grant = entries.find((entry) => entry.kind === 'grant' && entry.detail.reason === reason);
    const issued = grant && entries.find((entry) => entry.kind === 'issued' && entry.grant_id === grant.grant_id);
    if (result.code === 0) {
      if (!issued || issued.index < grant.index) throw new Error(`${reason}: a certificate that the log does not have, or not after its grant`);
      const fingerprint = new X509Certificate(credentials(file, 'prod').crt).fingerprint256.replaceAll(':', '').toLowerCase();
      same(fingerprint, issued.detail.fingerprint, `${reason}: fingerprints`);
      counts.held += 1;
    } else if (fs.existsSync(file)) {
      throw new Error(`${reason}: refused, and a talosconfig all the same`);
    } else {
      counts[issued ? 'certificate unanswered' : grant ? 'grant alone' : 'no grant'] += 1;
    }
  }
  return counts;
}
