/*
 * The plugin's client as a driver of docs/conformance.md: it submits, follows and looks elsewhere.
 *
 *     isoline conformance --reconnecting -- node plugins/ohif/test/driver.mjs
 */

import {text} from 'node:stream/consumers';

import {Client, ISOLINE} from '../src/client.js';
import {Latest, Policy} from '../src/retry.js';

const {url, request, looks = [], limits = {}} = JSON.parse(await text(process.stdin));
const milliseconds = Object.entries(limits).map(([key, seconds]) => [key.replace('_seconds', ''), 1000 * seconds]);
const client = new Client(url, undefined, new Policy(ISOLINE, Object.fromEntries(milliseconds)));
const latest = new Latest();

function tell(line) {
    process.stdout.write(`${JSON.stringify(line)}\n`);
}

function look(job, focus) {
    // where to look first is a wish: when it fails nothing is lost
    latest.send((signal) => client.look(job, {focus}, {signal})).catch(() => {});
}

await fetch('data:,'); // the first one loads its code, which would count as silence of the server
try {
    const {job} = await client.create(request);
    for await (const {event, seq} of client.events(job)) {
        tell({event, seq});
        looks.filter(({after}) => after === seq).forEach(({focus}) => look(job, focus));
    }
} catch (error) {
    tell({error: error.message});
}
process.exit(0); // a look that is still tried again is not waited for
