/*
 * The panel as a driver (docs/conformance.md). When it follows a job, tests/dsa/driver.py replaces
 * Girder; when it points at objects, a server with recorded events does.
 */

import {text} from 'node:stream/consumers';

import {RecordedServer} from '../../ohif/test/recorded.js';
import {Latest, Policy} from '../isoline_dsa/web/retry.js';
import {open, SlideMap} from './page.js';

open();
const {GIRDER, GirderApi} = await import('../isoline_dsa/web/api.js');
const {pause} = await import('../isoline_dsa/web/dom.js');
const {Prompting} = await import('../isoline_dsa/web/prompting.js');

const MODES = {
    capabilities: () => tell(['prompts', 'follow']),
    request: async (input) => tell(await requestFor(JSON.parse(input))),
    follow: (input) => follow(JSON.parse(input))
};

function tell(line) {
    process.stdout.write(`${JSON.stringify(line)}\n`);
}

// Gestures to requests

/** Resolve to the body that is sent for what a user did who points at objects. */
async function requestFor({image, model, drawn, steps}) {
    const server = new RecordedServer();
    globalThis.fetch = server.fetch;
    const map = new SlideMap();
    const panel = {
        map, itemId: 'item', viewer: {annotationLayer: {mode() {}}},
        announce() {}, complain() {}, reveal() {}, parameters: () => ({}), patience: () => ({})
    };
    const prompts = ['point', 'box', 'scribble', 'polygon'];
    const prompting = new Prompting(panel, {key: model, name: model, prompts, labels: []});
    for (const step of steps ?? drawn.map((mark) => ({draw: mark}))) {
        if (step.answer) {
            server.answer(step.answer);
        }
        if (step.draw) {
            draw(map, prompting, step.draw);
        } else {
            press(prompting, step.undo ? 'Undo' : 'Next object');
        }
        do {
            await pause(1);
        } while (step.answer && prompting.element.dataset.state === 'asking');
        server.forget();
    }
    return {image, ...server.requests.at(-1)}; // the item is the image: Girder adds it
}

/** Draw a mark with the tool of its kind; Alt says that it excludes. */
function draw(map, prompting, {kind, include = true, points, pixel, from, to}) {
    const tool = prompting.element.button(({dataset}) => dataset.tool === kind);
    tool.fire('click');
    if (kind === 'point') {
        map.click(pixel ? pixel.map((n) => n + 0.5) : points[0], !include);
    } else {
        map.drag(from ? [from, to] : opened(points), !include);
    }
    tool.fire('click'); // once more puts it away
}

function press(prompting, label) {
    prompting.element.button(({children}) => children[0] === label).fire('click');
}

/** Return the points of a line without the first again at its end. */
function opened(points) {
    return String(points[0]) === String(points.at(-1)) ? points.slice(0, -1) : points;
}

// Following a job

async function follow({url, request, looks = [], limits = {}}) {
    window.girder.rest.getApiRoot = () => url;
    const milliseconds = Object.entries(limits).map(([key, seconds]) => [key.replace('_seconds', ''), 1000 * seconds]);
    const api = new GirderApi(new Policy(GIRDER, Object.fromEntries(milliseconds)));
    const latest = new Latest();
    await fetch('data:,'); // the first one loads its code, which would count as silence of the server
    try {
        const run = await api.start('item', request);
        for await (const {event, seq} of api.events(run._id)) {
            tell({event, seq});
            // where to look first is a wish: when it fails nothing is lost
            looks.filter(({after}) => after === seq).forEach(({focus}) => latest.send(
                (signal) => api.call('PUT', `isoline/run/${run._id}/focus`, focus, {signal})).catch(() => {}));
        }
    } catch (error) {
        tell({error: error.message});
    }
}

await MODES[process.argv[2]](await text(process.stdin));
process.exit(0); // a look that is still tried again is not waited for
