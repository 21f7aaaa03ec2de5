/*
 * The plugin as a driver of docs/conformance.md: its client follows a server, its session draws into
 * an OHIF in memory.
 *
 *     isoline conformance -- node plugins/ohif/test/driver.mjs
 *     isoline conformance --reconnecting -- node plugins/ohif/test/driver.mjs
 */

import {text} from 'node:stream/consumers';

import {Client, ISOLINE} from '../src/client.js';
import {TOOLS, promptOf} from '../src/gestures.js';
import {Latest, Policy} from '../src/retry.js';
import {Session} from '../src/session.js';
import {Viewer} from '../src/viewer.js';
import {InMemoryOHIF} from './ohif.js';
import {RecordedServer} from './recorded.js';

const MODES = {
    capabilities: async () => tell(['volumes', 'volume_prompts', 'rerun', 'follow']),
    request: async (input) => tell(await requestFor(JSON.parse(input))),
    events: async (input) => tell(await shown([input])),
    rerun: async (input) => tell(await shown(JSON.parse(input).runs.map(asLines))),
    follow: (input) => follow(JSON.parse(input))
};

function tell(value) {
    process.stdout.write(`${JSON.stringify(value)}\n`);
}

function asLines(events) {
    return events.map((event) => `${JSON.stringify(event)}\n`).join('');
}

/** Return a session on a volume, and the server that it asks instead of one over HTTP. */
function sessionOn(volume) {
    const server = new RecordedServer();
    globalThis.fetch = server.fetch;
    const ohif = new InMemoryOHIF(volume);
    const session = new Session(new Client('http://recorded'), new Viewer(ohif), 'archive');
    return {session, server, ohif};
}

// Gestures to requests

/** Resolve to the body that is sent for what the user did. */
async function requestFor(gesture) {
    const {session, server, ohif} = sessionOn(gesture.volume);
    const model = {
        name: gesture.model, title: gesture.model, version: '1', prompts: ['point'],
        labels: [{name: 'Nucleus', color: [228, 26, 28]}]
    };
    const request = server.unanswered();
    if (gesture.gesture === 'whole') {
        ohif.lookAt(gesture.looking_at_slice);
        session.start(model, gesture.parameters);
    } else {
        session.pointer.offer([model]);
        await point(session.pointer, gesture, server);
    }
    return {...await request, image: gesture.image}; // the series on screen is the image of the recording
}

/** Do what a user does who points at objects. */
async function point(pointer, {drawn, steps}, server) {
    pointer.live = Boolean(steps);
    for (const step of steps ?? drawn.map((draw) => ({draw}))) {
        if (step.undo) {
            await pointer.undo();
        } else if (step.accept) {
            await pointer.next();
        } else {
            if (step.answer) {
                server.answer(step.answer);
            }
            const mark = markOf(step.draw);
            const taken = pointer.take({prompt: promptOf(mark), mark});
            await (step.answer || !pointer.live ? taken : null);
        }
    }
    if (!pointer.live) {
        pointer.answer();
    }
}

/** Return an annotation as cornerstone makes it. */
function markOf({kind, include = true, points, from, to}) {
    const tool = TOOLS.find((each) => each.kind === kind && each.include === include);
    const handles = from ? rectangle(from, to) : points;
    return {metadata: {toolName: tool.name}, data: {handles: {points: handles}, contour: {polyline: points}}};
}

/** Return the corners of a rectangle as cornerstone lists them, in a plane that contains both points. */
function rectangle([x0, y0, z0], [x1, y1, z1]) {
    const others = z0 === z1 ? [[x1, y0, z0], [x0, y1, z0]] : [[x1, y1, z0], [x0, y0, z1]];
    return [[x0, y0, z0], ...others, [x1, y1, z1]];
}

// Events to what is shown

/** Resolve to the labels of all voxels after one run after the other: slices of rows of numbers. */
async function shown(streams) {
    const {model: name, labels, volume} = JSON.parse(streams[0].split('\n').find(Boolean));
    const {session, server} = sessionOn(volume);
    for (const stream of streams) {
        const isLost = server.job(stream);
        await Promise.race([session.start({name, title: name, labels}, {}), isLost]);
    }
    const {labelmap} = session.run;
    const labelOf = new Map([...labelmap.origins].map(
        ([index, {label}]) => [index, labels.findIndex((each) => each.name === label) + 1]));
    const [columns, rows] = volume.size;
    return volume.slices.map((slice) => {
        const pixels = [...labelmap.read(labelmap.numberOf(slice))].map((value) => labelOf.get(value) ?? 0);
        return Array.from({length: rows}, (_, j) => pixels.slice(j * columns, (j + 1) * columns));
    });
}

// Following a job

async function follow({url, request, looks = [], limits = {}, token}) {
    const milliseconds = Object.entries(limits).map(([key, seconds]) => [key.replace('_seconds', ''), 1000 * seconds]);
    const policy = new Policy(ISOLINE, Object.fromEntries(milliseconds));
    const client = new Client(url, () => (token ? `Bearer ${token}` : ''), policy);
    const latest = new Latest();
    await fetch('data:,'); // the first one loads its code, which would count as silence of the server
    try {
        const {job} = await client.create(request);
        for await (const {event, seq} of client.events(job)) {
            tell({event, seq});
            // where to look first is a wish: when it fails nothing is lost
            looks.filter(({after}) => after === seq).forEach(({focus}) => (
                latest.send((signal) => client.look(job, {focus}, {signal})).catch(() => {})));
        }
    } catch (error) {
        tell({error: error.message});
    }
}

await MODES[process.argv[2]](await text(process.stdin));
process.exit(0); // what is still drawn again or tried again is not waited for
