import assert from 'node:assert/strict';
import http from 'node:http';
import test from 'node:test';

import {Problem} from '../src/attempt.js';
import {Client, ISOLINE} from '../src/client.js';
import {Policy} from '../src/retry.js';

/** Serve `answer(request, response, body)` for the length of `use(client, address)`. */
async function serving(answer, use, authorization) {
    const server = http.createServer(async (request, response) => {
        let body = '';
        for await (const chunk of request) {
            body += chunk;
        }
        answer(request, response, body);
    });
    await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
    const address = `http://127.0.0.1:${server.address().port}/isoline/`;
    try {
        await use(new Client(address, authorization), address);
    } finally {
        server.closeAllConnections();
        server.close();
    }
}

function json(response, value, status = 200) {
    response.writeHead(status, {'Content-Type': 'application/json'}).end(JSON.stringify(value));
}

async function collected(events) {
    const all = [];
    for await (const event of events) {
        all.push(event);
    }
    return all;
}

test('a request carries its body and who asks', async () => {
    await serving((request, response, body) => {
        json(response, {job: `${request.method} ${request.url} ${request.headers.authorization} ${body}`, position: 0}, 201);
    }, async (client) => {
        const {job} = await client.create({model: 'brain'});
        assert.equal(job, 'POST /isoline/v1/jobs Bearer abc {"model":"brain"}');
    }, () => 'Bearer abc');
});

test('a problem is told with its remedy', async () => {
    await serving((request, response) => json(response, {
        detail: 'parameters.above: expected a number', remedy: 'leave it out', code: 'BadParameter'
    }, 422), async (client) => {
        await assert.rejects(client.models(), (error) => {
            assert.ok(error instanceof Problem);
            assert.equal(error.message, 'Parameters.above: expected a number. Leave it out.');
            assert.equal(error.code, 'BadParameter');
            return !error.isTransient;
        });
    });
});

test('a server that is not there', async () => {
    let address = '';
    await serving(() => {}, (client, at) => { address = at; });
    const policy = new Policy(ISOLINE, {request: 300});
    await assert.rejects(new Client(address, undefined, policy).models(), (error) => (
        error.isTransient && /^The isoline server does not respond: /.test(error.message)));
});

test('each event comes once, over lost connections and in any pieces', async () => {
    const events = [0, 1, 2, 3].map((seq) => ({event: seq === 3 ? 'done' : 'mask', seq, text: 'grün'}));
    const lines = events.map((event) => `${JSON.stringify(event)}\n`);
    const asked = [];
    const told = [];
    await serving((request, response) => {
        const after = Number(new URL(request.url, 'http://x').searchParams.get('after'));
        asked.push(after);
        if (asked.length === 2) {
            response.writeHead(503).end();
        } else if (asked.length === 1) {
            const bytes = Buffer.from(`\n${lines[0]}${lines[1]}${lines[2].slice(0, 9)}`);
            const cut = bytes.indexOf(0xc3) + 1; // within a letter
            response.write(bytes.subarray(0, cut));
            setTimeout(() => response.write(bytes.subarray(cut), () => response.destroy()), 20);
        } else {
            response.end(lines.slice(1).join('')); // one more than was asked for
        }
    }, async (client) => {
        const got = await collected(client.events('j', {onWait: (text) => told.push(text)}));
        assert.deepEqual(got, events);
    });
    assert.deepEqual(asked, [-1, 1, 1]);
    assert.deepEqual(told, [...Array(2).fill('the server does not respond; trying again'), '']);
});

test('a job that is not there any more is an error', async () => {
    await serving((request, response) => json(response, {detail: 'no such job', code: 'UnknownJob'}, 404), async (client) => {
        await assert.rejects(collected(client.events('j')), /No such job\./);
    });
});

test('following ends at once when it is told to', async () => {
    await serving((request, response) => response.write('\n'), async (client) => {
        const following = new AbortController();
        setTimeout(() => following.abort(), 50);
        const began = performance.now();
        assert.deepEqual(await collected(client.events('j', {signal: following.signal})), []);
        assert.ok(performance.now() - began < 1000);
    });
});
