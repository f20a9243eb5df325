// What was tried and how it ended. A check is one sentence that holds or does not.

const results = [];
const started = Date.now();

/** Runs `body`; the sentence holds if it returns. Later checks still run, unless they ask for its value. */
export async function check(sentence, body) {
  const began = Date.now();
  try {
    const value = await body();
    results.push({ sentence, passed: true });
    say('ok', sentence, `${Date.now() - began} ms`);
    return value;
  } catch (error) {
    results.push({ sentence, passed: false });
    say('FAILED', sentence, '');
    console.log(indent(error.stack ?? String(error)));
    return undefined;
  }
}

/** Says loudly that something was not tried, and why. */
export function skip(sentence, why) {
  results.push({ sentence, skipped: true });
  say('SKIPPED', sentence, why);
}

export function title(text) {
  console.log(`\n=== ${text} ===`);
}

/** Prints the sum and returns the exit code. */
export function summary() {
  const of = (test) => results.filter(test);
  const failed = of((r) => !r.passed && !r.skipped);
  const skipped = of((r) => r.skipped);
  for (const r of skipped) console.log(`skipped: ${r.sentence}`);
  for (const r of failed) console.log(`failed: ${r.sentence}`);
  const seconds = Math.round((Date.now() - started) / 1000);
  console.log(`\ninterop: ${of((r) => r.passed).length} passed, ${failed.length} failed, ${skipped.length} skipped in ${seconds} s`);
  return failed.length > 0 || of((r) => r.passed).length === 0 ? 1 : 0;
}

/** Throws unless `actual` equals `expected` as JSON. */
export function same(actual, expected, what = 'values') {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what} differ\n  expected ${b}\n  found    ${a}`);
}

/** Throws unless `text` has, or matches, `part`. */
export function has(text, part, what = 'text') {
  const found = part instanceof RegExp ? part.test(text) : String(text).includes(part);
  if (!found) throw new Error(`${what} lacks ${part}\n${indent(String(text).slice(0, 2000))}`);
}

/** Throws if `text` has, or matches, `part`. */
export function lacks(text, part, what = 'text') {
  const found = part instanceof RegExp ? part.test(text) : String(text).includes(part);
  if (found) throw new Error(`${what} has ${part}\n${indent(String(text).slice(0, 2000))}`);
}

function say(state, sentence, note) {
  console.log(`${state.padEnd(8)}${sentence}${note ? `  (${note})` : ''}`);
}

function indent(text) {
  return text.split('\n').map((line) => `        ${line}`).join('\n');
}
