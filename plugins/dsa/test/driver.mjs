/*
 * The panel's requests, as the part of a driver (docs/conformance.md) that calls Girder; in this
 * test, tests/dsa/driver.py replaces Girder.
 */

import {text} from 'node:stream/consumers';

import {Latest, Policy} from '../isoline_dsa/web/retry.js';

const {url, request, looks = [], limits = {}} = JSON.parse(await text(process.stdin));
globalThis.window = {girder: {rest: {getApiRoot: () => url}, auth: {getCurrentToken: () => 'token'}}};
const {GIRDER, GirderApi} = await import('../isoline_dsa/web/api.js');
const milliseconds = Object.entries(limits).map(([key, seconds]) => [key.replace('_seconds', ''), 1000 * seconds]);
const api = new GirderApi(new Policy(GIRDER, Object.fromEntries(milliseconds)));
const latest = new Latest();

function tell(line) {
    process.stdout.write(`${JSON.stringify(line)}\n`);
}

function look(run, focus) {
    // where to look first is a wish: when it fails nothing is lost
    latest.send((signal) => api.call('PUT', `isoline/run/${run}/focus`, focus, {signal})).catch(() => {});
}

await fetch('data:,'); // the first one loads its code, which would count as silence of the server
try {
    const run = await api.start('item', request);
    for await (const {event, seq} of api.events(run._id)) {
        tell({event, seq});
        looks.filter(({after}) => after === seq).forEach(({focus}) => look(run._id, focus));
    }
} catch (error) {
    tell({error: error.message});
}
process.exit(0); // a look that is still tried again is not waited for
