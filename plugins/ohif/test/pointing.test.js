import assert from 'node:assert/strict';
import test from 'node:test';

import {promptOf} from '../src/gestures.js';
import {Pointing} from '../src/pointing.js';
import {layerOf} from '../src/runs.js';

const STARTED = {model: 'click', version: '1', labels: [{name: 'Object', color: [1, 2, 3]}]};

/** A labelmap of slices of 6 x 1, each written as a text such as '..112.'. */
class Slices {
    constructor(...slices) {
        this.columns = 6;
        this.exists = true;
        this.origins = new Map();
        this._pixels = slices.map(pixelsOf);
    }

    get size() { return this._pixels.length; }
    read(k) { return this._pixels[k]; }
    write(k, pixels) { this._pixels[k].set(pixels); }
    segments() { return new Set([1, 2]); }
    locked() { return new Set(); }
    numberOf({instance}) { return Number(instance); }
    nameOf(k) { return {instance: String(k), frame: 1}; }
    show() {}
    brush(text, k) { this._pixels[k] = pixelsOf(text); }
    get text() {
        return this._pixels.map((each) => [...each].map((value) => value || '.').join('')).join(' ');
    }
}

function pixelsOf(text) {
    return Uint8Array.from(text, (each) => (each === '.' ? 0 : Number(each)));
}

/** Return an answer of slices, each {k: text}. */
function answer(slices) {
    return {
        started: STARTED,
        slices: Object.entries(slices).map(([k, text]) => (
            {instance: k, frame: 1, layers: [{label: 1, ...layerOf(pixelsOf(text), 6, 1)}]}))
    };
}

/** Return a server that gives `answers` one after the other, and what it was asked. */
function server(...answers) {
    const asked = [];
    const ask = (request) => {
        asked.push(request);
        const next = answers.shift();
        return next instanceof Error ? Promise.reject(next) : Promise.resolve(next);
    };
    return {ask, asked};
}

const A = {kind: 'point', points: [[1, 2, 3]], include: true};
const B = {kind: 'point', points: [[4, 5, 6]], include: false};

test('each answer takes the place of the one before, other segments stay', async () => {
    const slices = new Slices('2.....', '......');
    const {ask, asked} = server(answer({0: '1111..', 1: '.1....'}), answer({0: '.11...'}));
    const pointing = new Pointing(ask, {model: 'click'}, slices, 1);
    pointing.add(A, 'a');
    await pointing.answer();
    assert.equal(slices.text, '2111.. .1....');
    pointing.add(B, 'b');
    await pointing.answer();
    assert.equal(slices.text, '211... ......');
    assert.deepEqual(asked.map((each) => each.prompts), [[A], [A, B]]);
    assert.equal(asked[0].initial, undefined);
    assert.equal(slices.origins.get(1).edited, true, 'what a person pointed at is no machine\'s work alone');
});

test('what other segments cover is told from what was drawn and from nothing', async () => {
    const slices = new Slices('222...');
    const {ask} = server(answer({0: '11....'}), answer({0: '1111..'}), answer({}));
    const pointing = new Pointing(ask, {}, slices, 1);
    const hidden = [];
    for (const prompt of [A, A, B]) {
        pointing.add(prompt, 'mark');
        await pointing.answer();
        hidden.push(pointing.isHidden);
    }
    assert.deepEqual(hidden, [true, false, false]);
});

test('prompts are taken back and given again one by one', async () => {
    const slices = new Slices('2.....');
    const {ask, asked} = server(answer({0: '.1....'}), answer({0: '.111..'}));
    const pointing = new Pointing(ask, {}, slices, 1);
    for (const [prompt, mark] of [[A, 'a'], [B, 'b']]) {
        pointing.add(prompt, mark);
        await pointing.answer();
    }
    assert.equal(pointing.undo().mark, 'b');
    assert.equal(slices.text, '21....');
    pointing.undo();
    assert.equal(slices.text, '2.....');
    assert.equal(pointing.undo(), null);
    pointing.redo();
    pointing.redo();
    assert.equal(slices.text, '2111..');
    assert.equal(asked.length, 2, 'nothing is asked twice');
});

test('what is in the segment is corrected, and comes back', async () => {
    const slices = new Slices('111...', '1.....');
    const {ask, asked} = server(answer({0: '11....'}));
    const pointing = new Pointing(ask, {}, slices, 1);
    pointing.add(B, 'b');
    await pointing.answer();
    assert.equal(slices.text, '11.... ......');
    assert.deepEqual(asked[0].initial.slices.map((each) => each.slice.instance), ['0', '1']);
    pointing.undo();
    assert.equal(slices.text, '111... 1.....');
});

test('strokes since the last answer are seen', async () => {
    const slices = new Slices('......');
    const {ask} = server(answer({0: '11....'}));
    const pointing = new Pointing(ask, {}, slices, 1);
    pointing.add(A, 'a');
    await pointing.answer();
    assert.equal(pointing.isEdited, false);
    slices.brush('11..2.', 0);
    assert.equal(pointing.isEdited, false, 'another segment');
    slices.brush('111.2.', 0);
    assert.equal(pointing.isEdited, true);
});

test('prompts that come while the server thinks are asked about together', async () => {
    const slices = new Slices('......');
    const {ask, asked} = server(answer({0: '1.....'}), answer({0: '111...'}));
    const pointing = new Pointing(ask, {}, slices, 1);
    pointing.add(A, 'a');
    const first = pointing.answer();
    pointing.add(A, 'b');
    pointing.add(B, 'c');
    assert.equal(pointing.answer(), first);
    await first;
    assert.deepEqual(asked.map((each) => each.prompts.length), [1, 3]);
    assert.equal(slices.text, '111...');
});

test('a prompt that is refused is taken out, one that nobody heard stays', async () => {
    const slices = new Slices('......');
    const refused = Object.assign(new Error('outside'), {isTransient: false});
    const silent = Object.assign(new Error('gone'), {isTransient: true});
    const {ask, asked} = server(refused, silent, answer({0: '11....'}));
    const pointing = new Pointing(ask, {}, slices, 1);
    pointing.add(A, 'a');
    await assert.rejects(pointing.answer(), (error) => error.step.mark === 'a');
    assert.equal(pointing.steps.length, 0);
    pointing.add(B, 'b');
    await assert.rejects(pointing.answer(), /gone/);
    assert.equal(pointing.waits, true);
    await pointing.answer();
    assert.deepEqual(asked.at(-1).prompts, [B]);
    assert.equal(slices.text, '11....');
});

test('annotations of the viewer are prompts', () => {
    const corners = [[0, 0, 5], [9, 0, 5], [0, 7, 5], [9, 7, 5]];
    const line = [[1, 1, 5], [2, 2, 5]];
    const drawn = (toolName, data) => promptOf({metadata: {toolName}, data});
    assert.deepEqual(drawn('IsolineNotPoint', {handles: {points: [[1, 2, 3]]}}), {...B, points: [[1, 2, 3]]});
    assert.deepEqual(drawn('IsolineBox', {handles: {points: corners}}),
        {kind: 'box', points: corners, include: true});
    assert.deepEqual(drawn('IsolineNotScribble', {contour: {polyline: line}}),
        {kind: 'scribble', points: line, include: false});
    assert.deepEqual(drawn('IsolineLasso', {contour: {polyline: line}}).kind, 'polygon');
    assert.equal(drawn('Length', {}), null);
});
