import assert from 'node:assert/strict';
import test from 'node:test';

import {json, JumpingClock, lines, refused, Script, silent, stream} from '../../ohif/test/scripted.js';
import {Latest, Policy} from '../isoline_dsa/web/retry.js';

globalThis.window = {girder: {rest: {getApiRoot: () => '/api/v1'}, auth: {getCurrentToken: () => 'token'}}};
const {GIRDER, GirderApi} = await import('../isoline_dsa/web/api.js');

const BUSY = {message: 'Isoline: the queue is full'};

/** Return the API of a Girder that gives `answers`, what it is asked, and the clock. */
function scripted(t, ...answers) {
    const clock = new JumpingClock();
    const script = new Script(clock, ...answers);
    t.mock.method(globalThis, 'fetch', script.fetch);
    return {api: new GirderApi(new Policy(GIRDER, {}, clock)), script, clock};
}

async function collected(events) {
    const all = [];
    for await (const event of events) {
        all.push(event.seq);
    }
    return all;
}

/** Every short request that is tried again. */
const SHORT = {
    models: (api, patience) => api.call('GET', 'isoline/models', undefined, patience),
    focus: (api, patience) => api.call('PUT', 'isoline/run/r/focus', [1, 2], patience),
    cancel: (api, patience) => api.call('POST', 'isoline/run/r/cancel', undefined, patience),
    start: (api, patience) => api.start('i', {model: 'nuclei'}, patience),
    prompt: (api, patience) => api.prompt('i', {model: 'click'}, patience)
};

for (const [name, ask] of Object.entries(SHORT)) {
    const good = name === 'prompt' ? stream(`\n${lines(0, 9)}`) : json({_id: 'r'});

    test(`${name} is tried again while Girder, or the isoline server behind it, does not respond`, async (t) => {
        const bad = [429, 502, 503, 504].map((status) => json(BUSY, status));
        const {api, script} = scripted(t, silent, ...bad, good);
        const told = [];
        await ask(api, {onWait: (text) => told.push(text)});
        assert.deepEqual(script.pauses, [15_250, 500, 1000, 2000, 4000]);
        const said = script.requests.map(({method, url, headers, body}) => JSON.stringify([method, url, headers, body]));
        assert.equal(new Set(said).size, 1, 'every attempt says the same');
        assert.equal(script.requests[0].headers['Girder-Token'], 'token');
        assert.deepEqual(told, [...Array(5).fill('the server does not respond; trying again'), '']);
    });

    test(`${name} is not tried again after any other answer`, async (t) => {
        for (const status of [400, 401, 403, 404, 409, 422, 500]) {
            const {api, script} = scripted(t, json(BUSY, status), good);
            await assert.rejects(ask(api), {message: 'Isoline: the queue is full', status});
            assert.equal(script.requests.length, 1, String(status));
            t.mock.restoreAll();
        }
    });

    test(`${name} waits as long as it is told to, and can be stopped meanwhile`, async (t) => {
        const {api, script, clock} = scripted(t, json(BUSY, 503, {'Retry-After': '20'}), good);
        const stopping = new AbortController();
        clock.after(7000, () => stopping.abort());
        await assert.rejects(ask(api, {signal: stopping.signal}), {name: 'AbortError'});
        assert.deepEqual([clock.time, script.requests.length], [7000, 1]);
        t.mock.restoreAll();
        const other = scripted(t, json(BUSY, 429, {'Retry-After': '3'}), good);
        await ask(other.api);
        const [pause] = other.script.pauses;
        assert.ok(pause >= 3000 && pause <= 3300, String(pause));
    });
}

test('each run that is started has a key of its own', async (t) => {
    const {api, script} = scripted(t, refused, json({_id: 'r'}));
    await api.start('i', {});
    await api.start('i', {});
    const keys = script.requests.map(({headers}) => headers['Idempotency-Key']);
    assert.match(keys[0], /^[A-Za-z0-9_-]{16,64}$/);
    assert.deepEqual([keys[1] === keys[0], keys[2] === keys[0]], [true, false]);
});

test('what may not be done twice is asked once', async (t) => {
    const {api, script} = scripted(t, json(BUSY, 502));
    await assert.rejects(api.once('POST', 'isoline/run/r/accept'), /the queue is full/);
    assert.equal(script.requests.length, 1);
});

test('an answer without content is null', async (t) => {
    const {api} = scripted(t, () => new Response(null, {status: 204}));
    assert.equal(await api.call('GET', 'x'), null);
});

test('the stream of a run is resumed after the last whole event', async (t) => {
    const {api, script} = scripted(t, stream(`${lines(0, 1)}{"ev`), json(BUSY, 502), stream(lines(1, 2, 9)));
    assert.deepEqual(await collected(api.events('r')), [0, 1, 2, 9]);
    assert.deepEqual(script.requests.map(({url}) => url), [-1, 1, 1].map(
        (after) => `/api/v1/isoline/run/r/events?after=${after}`));
    assert.deepEqual(script.pauses, [250, 500]);
});

test('a click whose stream breaks off is asked again, and answered without heartbeats', async (t) => {
    const {api} = scripted(t, stream(lines(0), 'reset'), stream(`\n${lines(0)}\n${lines(9)}`));
    assert.deepEqual((await api.prompt('i', {})).map(({seq}) => seq), [0, 9]);
});

test('of several looks only the latest is sent again', async (t) => {
    const {api, script} = scripted(t, json(BUSY, 503), json(BUSY, 503), json(null));
    const looks = new Latest();
    await Promise.all([[1, 2], [3, 4]].map((point) => looks.send(
        (signal) => api.call('PUT', 'isoline/run/r/focus', point, {signal}))));
    assert.deepEqual(script.requests.map(({body}) => body), ['[1,2]', '[3,4]', '[3,4]']);
});
