import assert from 'node:assert/strict';
import test from 'node:test';

import {Run} from '../src/run.js';
import {layerOf} from '../src/runs.js';

const MODEL = {name: 'brain', title: 'Brain', version: '1', labels: [{name: 'Left', color: [1, 2, 3]}]};
const LABELS = [{name: 'Left', color: [1, 2, 3]}, {name: 'Right', color: [4, 5, 6]}];

/** A labelmap of slices of 6 x 1, each written as a text such as '..112.'. */
class Slices {
    constructor(...slices) {
        this.exists = true;
        this.columns = 6;
        this.origins = new Map();
        this.named = new Map([[1, 'Left']]);
        this._pixels = slices.map(pixelsOf);
    }

    get size() { return this._pixels.length; }
    read(k) { return this._pixels[k]; }
    write(k, pixels) { this._pixels[k].set(pixels); }
    list() { return [...this.named].map(([index, label]) => ({index, label, locked: false})); }
    segments() { return new Set(this.named.keys()); }
    locked() { return new Set(); }
    add(index, label) { this.named.set(index, label); }
    remove(index) { this.named.delete(index); }
    numberOf({k}) { return k; }
    show() {}
    brush(text, k) { this._pixels[k] = pixelsOf(text); }
    get text() {
        return this._pixels.map((each) => [...each].map((value) => value || '.').join('')).join(' ');
    }
}

function pixelsOf(text) {
    return Uint8Array.from(text, (each) => (each === '.' ? 0 : Number(each)));
}

/** Return the event with these slices, each k: its labels as a text. */
function mask(slices, more = {}) {
    const layers = (text) => [1, 2].filter((label) => text.includes(label))
        .map((label) => ({label, ...layerOf(pixelsOf(text), 6, label)}));
    return {
        event: 'mask', provisional: false, whole: false, ...more,
        slices: Object.entries(slices).map(([k, text]) => ({k: Number(k), layers: layers(text)}))
    };
}

const coarse = (slices) => mask(slices, {provisional: true});
const DONE = {event: 'done'};
const CANCELLED = {event: 'cancelled'};
const FAILED = {event: 'failed', message: 'the disk is full', remedy: ''};

/** Run on `labelmap` with the events of the server; return the run when all are drawn. */
async function run(labelmap, events) {
    let taken = null;
    const all = new Promise((resolve) => { taken = resolve; });
    const client = {
        async* events() {
            yield {event: 'started', labels: LABELS, version: '1'};
            yield* events;
            taken();
        },
        cancel: () => Promise.resolve()
    };
    const made = new Run(client, {job: 'j', position: 0}, MODEL, {labelmap, isNew: false}, () => {});
    made.follow();
    await all;
    await new Promise((resolve) => { setTimeout(resolve, 5); });
    return made;
}

/** A labelmap with what a first run has found: nothing in the first slice. */
function found() {
    const labelmap = new Slices('......', '11....', '111...', '1111..');
    labelmap.origins.set(1, {model: 'brain', version: '1', label: 'Left', edited: false});
    return labelmap;
}

test('a slice gives way to the new one, and those that never come are emptied when it is done', async () => {
    const labelmap = found();
    const meanwhile = [];
    const second = await run(labelmap, (function* events() {
        yield mask({1: '..11..'});
        meanwhile.push(labelmap.text);
        yield mask({3: '......'});
        yield DONE;
    }()));
    assert.deepEqual(meanwhile, ['...... ..11.. 111... 1111..']);
    assert.equal(labelmap.text, '...... ..11.. ...... ......');
    second.undo();
    assert.equal(labelmap.text, '...... 11.... 111... 1111..');
    labelmap.exists = false;
});

for (const end of [CANCELLED, FAILED]) {
    test(`when it is ${end.event}, coarse slices are as before and final ones stay`, async () => {
        const labelmap = found();
        const meanwhile = [];
        await run(labelmap, (function* events() {
            yield coarse({0: '222...', 1: '222...', 2: '222...'});
            labelmap.brush('222..1', 2);
            yield mask({1: '..11..'});
            meanwhile.push(labelmap.text);
            yield mask({0: '......', 2: '......'}); // which the server takes back
            yield end;
        }()));
        assert.deepEqual(meanwhile, ['222... ..11.. 222..1 1111..']);
        assert.equal(labelmap.text, '...... ..11.. 111..1 1111..');
        labelmap.exists = false;
    });
}

test('a coarse slice is empty when it is done and nothing was found there', async () => {
    const labelmap = found();
    await run(labelmap, [coarse({2: '11....'}), mask({2: '......'}), DONE]);
    assert.equal(labelmap.text, '...... ...... ...... ......');
    labelmap.exists = false;
});

test('coarse slices are as before when the connection ends', async () => {
    const labelmap = found();
    const second = await run(labelmap, [coarse({1: '222...', 2: '222...'}), mask({1: '..11..'})]);
    assert.equal(second.state, 'stopped');
    assert.equal(labelmap.text, '...... ..11.. 111... 1111..');
    labelmap.exists = false;
});

for (const end of [DONE, CANCELLED, FAILED]) {
    test(`a segment that the user has edited stays when it is ${end.event}`, async () => {
        const labelmap = found();
        labelmap.origins.get(1).edited = true;
        await run(labelmap, [coarse({1: '..1111'}), mask({1: '.11...'}), end]);
        assert.equal(labelmap.text, '...... 112... 111... 1111..');
        labelmap.exists = false;
    });
}

test('the same result again changes nothing', async () => {
    const labelmap = found();
    await run(labelmap, [mask({0: '......', 1: '11....', 2: '111...', 3: '1111..'}), DONE]);
    assert.equal(labelmap.text, '...... 11.... 111... 1111..');
    assert.deepEqual([...labelmap.named.keys()], [1]);
    labelmap.exists = false;
});

test('a mask that is whole empties what it does not list', async () => {
    const labelmap = found();
    await run(labelmap, [mask({0: '1.....'}), mask({1: '.1....'}, {whole: true}), CANCELLED]);
    assert.equal(labelmap.text, '...... .1.... ...... ......');
    labelmap.exists = false;
});

test('a mask that is whole empties what the same run has drawn before', async () => {
    const labelmap = new Slices('......', '1.....');
    await run(labelmap, [mask({0: '1.....'}), mask({1: '.1....'}, {whole: true}), DONE]);
    assert.equal(labelmap.text, '...... 12....');
    labelmap.exists = false;
});
