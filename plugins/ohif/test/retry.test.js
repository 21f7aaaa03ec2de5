import assert from 'node:assert/strict';
import test from 'node:test';

import {Client, ISOLINE, REQUEST_KEYS, requestOf} from '../src/client.js';
import {Latest, newKey, Policy} from '../src/retry.js';
import {json, JumpingClock, lines, refused, Script, silent, stream} from './scripted.js';

const CREATED = json({job: 'j', position: 0}, 201);
const BUSY = {detail: 'the queue is full', code: 'Busy'};

/** Return a client of a server that gives `answers`, what it is asked, and the clock. */
function scripted(t, answers, {chance, limits} = {}) {
    const clock = new JumpingClock({chance});
    const script = new Script(clock, ...answers);
    t.mock.method(globalThis, 'fetch', script.fetch);
    const client = new Client('http://isoline/', undefined, new Policy(ISOLINE, limits, clock));
    return {client, script, clock};
}

async function collected(events) {
    const all = [];
    for await (const event of events) {
        all.push(event.seq);
    }
    return all;
}

/** Every short request. */
const SHORT = {
    models: (client, patience) => client.models(patience),
    archives: (client, patience) => client.archives(patience),
    create: (client, patience) => client.create({model: 'brain'}, patience),
    look: (client, patience) => client.look('j', {slice: 3}, patience),
    cancel: (client, patience) => client.cancel('j', patience),
    segment: (client, patience) => client.segment({model: 'click'}, patience)
};

for (const [name, ask] of Object.entries(SHORT)) {
    const good = name === 'segment' ? stream(lines(0, 9)) : json({models: [], archives: [], job: 'j'});

    test(`${name} is tried again after 429, 502, 503, 504, a refused connection and one that is torn`, async (t) => {
        const torn = () => new Response(new ReadableStream({start: (body) => body.error(new TypeError('terminated'))}));
        const bad = [429, 502, 503, 504].map((status) => json(BUSY, status));
        const {client, script} = scripted(t, [...bad, refused, torn, good]);
        await ask(client);
        assert.deepEqual(script.pauses, [250, 500, 1000, 2000, 4000, 8000]);
        const said = script.requests.map(({method, url, headers, body}) => JSON.stringify([method, url, headers, body]));
        assert.equal(new Set(said).size, 1, 'every attempt says the same');
    });

    test(`${name} is not tried again after any other answer`, async (t) => {
        for (const status of [400, 401, 403, 404, 409, 413, 422, 500, 501]) {
            const {client, script} = scripted(t, [json({detail: 'no', code: 'No'}, status), good]);
            await assert.rejects(ask(client), {message: 'No.', code: 'No', status});
            assert.equal(script.requests.length, 1, String(status));
            t.mock.restoreAll();
        }
    });

    test(`${name} is given up when the next attempt would begin 30 s after the first`, async (t) => {
        const {client, script} = scripted(t, [json(BUSY, 429)]);
        await assert.rejects(ask(client), /The queue is full\./);
        assert.deepEqual(script.pauses, [250, 500, 1000, 2000, 4000, 8000, 8000]);
    });

    test(`${name} ends at once when the user stops during a pause`, async (t) => {
        const {client, script, clock} = scripted(t, [json(BUSY, 503, {'Retry-After': '20'})]);
        const stopping = new AbortController();
        clock.after(7000, () => stopping.abort());
        await assert.rejects(ask(client, {signal: stopping.signal}), {name: 'AbortError'});
        assert.equal(clock.time, 7000);
        assert.equal(script.requests.length, 1);
    });
}

test('a submission has a key of its own, each attempt at it the same', async (t) => {
    const {client, script} = scripted(t, [refused, json(BUSY, 429), CREATED]);
    await client.create({model: 'brain'});
    await client.create({model: 'brain'});
    const keys = script.requests.map(({headers}) => headers['Idempotency-Key']);
    assert.equal(keys.length, 4);
    assert.equal(new Set(keys.slice(0, 3)).size, 1);
    assert.notEqual(keys[3], keys[0]);
    keys.forEach((key) => assert.match(key, /^[A-Za-z0-9_-]{16,64}$/));
    assert.equal(new Set(Array.from({length: 1000}, newKey)).size, 1000);
});

test('pauses are spread by a quarter', async (t) => {
    for (const [chance, factor] of [[0, 0.75], [1, 1.25]]) {
        const {client, script} = scripted(t, [refused, refused, refused, CREATED], {chance});
        await client.create({});
        assert.deepEqual(script.pauses, [250 * factor, 500 * factor, 1000 * factor]);
        t.mock.restoreAll();
    }
});

test('a server that says when is asked then, or at most a tenth later', async (t) => {
    const date = new Date(Date.UTC(2026, 0, 1) + 3000).toUTCString();
    for (const said of ['3', date]) {
        for (const chance of [0, 1]) {
            const answers = [json(BUSY, 429, {'Retry-After': said}), CREATED];
            const {client, script} = scripted(t, answers, {chance});
            const told = [];
            await client.create({}, {onWait: (text) => told.push(text)});
            const [pause] = script.pauses;
            assert.ok(pause >= 3000 && pause <= 3300, `${said}: ${pause}`);
            assert.deepEqual(told, ['the server is busy; trying again in 4 s', '']);
            t.mock.restoreAll();
        }
    }
});

test('a time that has passed, or makes no sense, is none', async (t) => {
    for (const said of ['0', 'Thu, 01 Jan 1970 00:00:00 GMT', 'soon', '']) {
        const {client, script} = scripted(t, [json(BUSY, 503, {'Retry-After': said}), CREATED]);
        await client.create({});
        assert.deepEqual(script.pauses, [250], said);
        t.mock.restoreAll();
    }
});

test('a server that asks for more patience than there is, is not asked again', async (t) => {
    const {client, script} = scripted(t, [json(BUSY, 429, {'Retry-After': '31'})]);
    await assert.rejects(client.create({}), /The queue is full/);
    assert.equal(script.requests.length, 1);
});

test('a server that is silent for 15 s is asked again', async (t) => {
    const {client, script} = scripted(t, [silent, CREATED]);
    await client.create({});
    assert.deepEqual(script.pauses, [15_250]);
});

test('storing may take an archive two minutes, and is not tried again', async (t) => {
    const {client, script, clock} = scripted(t, [silent]);
    await assert.rejects(client.save({}), /does not respond: it was silent for 120 seconds/);
    assert.equal(script.requests.length, 1);
    assert.equal(clock.time, 120_000);
    t.mock.restoreAll();
    const down = scripted(t, [json({detail: 'the archive is down', code: 'NotStored'}, 502)]);
    await assert.rejects(down.client.save({}), {code: 'NotStored'});
    assert.equal(down.script.requests.length, 1);
});

test('a page that is no answer of an isoline server is not asked again', async (t) => {
    const {client, script} = scripted(t, [() => new Response('<html>')]);
    await assert.rejects(client.models(), /sent a response that is not JSON/);
    assert.equal(script.requests.length, 1);
});

test('a click whose stream is torn is asked from the start', async (t) => {
    const {client, script} = scripted(t, [stream(lines(0, 1), 'reset'), stream(lines(0, 1)), stream(lines(0, 1, 9))]);
    const events = await client.segment({});
    assert.deepEqual(events.map(({seq}) => seq), [0, 1, 9]);
    assert.deepEqual(script.pauses, [250, 500]);
});

const BREAKS = {
    'ends too early': [stream(lines(0, 1)), 0],
    'is torn within a line': [stream(`${lines(0, 1)}{"event": "ma`, 'reset'), 0],
    'ends within a line': [stream(`${lines(0, 1)}{"event": "ma`), 0],
    'brings a line that is not JSON': [stream(`${lines(0, 1)}oops\n${lines(9)}`), 0],
    'falls silent': [stream(lines(0, 1), 'silent'), 15_000],
    'falls silent within a line': [stream(`${lines(0, 1)}{"ev`, 'silent'), 15_000]
};

for (const [name, [broken, after]] of Object.entries(BREAKS)) {
    test(`a stream that ${name} is resumed after the last whole event`, async (t) => {
        const {client, script} = scripted(t, [broken, stream(lines(1, 2, 9))]);
        const told = [];
        assert.deepEqual(await collected(client.events('j', {onWait: (text) => told.push(text)})), [0, 1, 2, 9]);
        assert.deepEqual(script.requests.map(({url}) => url), [
            'http://isoline/v1/jobs/j/events?after=-1', 'http://isoline/v1/jobs/j/events?after=1']);
        assert.deepEqual(script.pauses, [after + 250]);
        assert.deepEqual(told, ['the server does not respond; trying again', '']);
    });
}

test('a stream is asked for again after 429, 502, 503 and 504 and no other answer', async (t) => {
    const bad = [429, 502, 503, 504].map((status) => json(BUSY, status));
    const {client, script} = scripted(t, [...bad, stream(lines(0, 9))]);
    assert.deepEqual(await collected(client.events('j')), [0, 9]);
    assert.deepEqual(script.pauses, [250, 500, 1000, 2000]);
    t.mock.restoreAll();
    for (const status of [401, 404, 500]) {
        const other = scripted(t, [json({detail: 'no such job'}, status)]);
        await assert.rejects(collected(other.client.events('j')), /No such job\./);
        assert.equal(other.script.requests.length, 1);
        t.mock.restoreAll();
    }
});

test('a heartbeat starts the count of pauses again', async (t) => {
    const {client, script} = scripted(t, [refused, refused, stream('\n', 'reset'), refused, stream(lines(9))]);
    await collected(client.events('j'));
    assert.deepEqual(script.pauses, [250, 500, 250, 500]);
});

test('a stream is given up when the next attempt would begin 300 s after the last sign of life', async (t) => {
    const {client, clock} = scripted(t, [refused, stream(lines(0), 'silent'), refused]);
    const got = [];
    await assert.rejects(async () => {
        for await (const {seq} of client.events('j')) {
            got.push(seq);
        }
    }, /The isoline server does not respond: fetch failed\./);
    assert.deepEqual(got, [0]);
    // 250 ms to the sign of life, 15 s of silence, 250 + ... + 4000 ms, then 8 s each while they fit
    assert.equal(clock.time, 250 + 15_000 + 7750 + 34 * 8000);
    assert.ok(clock.time + 8000 > 250 + 300_000);
});

test('limits can be others', async (t) => {
    const limits = {silence: 2000, request: 1000, stream: 5000};
    const {client, script} = scripted(t, [silent], {limits});
    await assert.rejects(client.models(), /silent for 2 seconds/);
    await assert.rejects(collected(client.events('j')), /silent for 2 seconds/);
    assert.deepEqual(script.pauses, [2000, 2250, 2500]);
});

test('following ends at once when the user stops during a pause', async (t) => {
    const {client, clock} = scripted(t, [json(BUSY, 503, {'Retry-After': '60'})]);
    const stopping = new AbortController();
    const told = [];
    clock.after(1000, () => stopping.abort());
    const patience = {signal: stopping.signal, onWait: (text) => told.push(text)};
    assert.deepEqual(await collected(client.events('j', patience)), []);
    assert.equal(clock.time, 1000);
    assert.equal(told.at(-1), '');
});

test('of several looks only the latest is sent again', async (t) => {
    const {client, script} = scripted(t, [json(BUSY, 503), json(BUSY, 503), json({})]);
    const looks = new Latest();
    await Promise.all([1, 2].map((slice) => looks.send((signal) => client.look('j', {slice}, {signal}))));
    assert.deepEqual(script.requests.map(({body}) => JSON.parse(body).slice), [1, 2, 2]);
});

test('a look that is refused is an error', async (t) => {
    const {client} = scripted(t, [json({detail: 'no volume'}, 422)]);
    await assert.rejects(new Latest().send((signal) => client.look('j', {slice: 1}, {signal})), /No volume/);
});

test('a request has no key that is not declared', () => {
    const all = Object.fromEntries(REQUEST_KEYS.map((key) => [key, 1]));
    assert.deepEqual(Object.keys(requestOf(all)), REQUEST_KEYS);
    assert.deepEqual(requestOf({image: 'a', slice: undefined}), {image: 'a'});
    assert.throws(() => requestOf({image: 'a', slcie: 1}), /slcie/);
});
