#!/usr/bin/env node
// Stands where the client looks for a browser: hands the URL to the driver, which browses.
const response = await fetch(process.env.INTEROP_BROWSER, { method: 'POST', body: process.argv.at(-1) });
process.exit(response.ok ? 0 : 1);
