import assert from 'node:assert/strict';
import test from 'node:test';

import {Drawing} from '../src/drawing.js';
import {layerOf} from '../src/runs.js';

/** A labelmap of slices of 6 x 1, each written as a text such as '..112.'. */
class Slices {
    constructor(slices, {segments = [1, 2], locked = []} = {}) {
        this.columns = 6;
        this._pixels = slices.map(pixelsOf);
        this.has = new Set(segments);
        this.holds = new Set(locked);
    }

    get size() { return this._pixels.length; }
    read(k) { return this._pixels[k]; }
    write(k, pixels) { this._pixels[k].set(pixels); }
    segments() { return this.has; }
    locked() { return this.holds; }
    brush(text, k = 0) { this._pixels[k] = pixelsOf(text); }
    text(k = 0) { return [...this._pixels[k]].map((value) => value || '.').join(''); }
}

function pixelsOf(text) {
    return Uint8Array.from(text, (each) => (each === '.' ? 0 : Number(each)));
}

function layers(text) {
    const pixels = pixelsOf(text);
    return [1, 2].filter((each) => pixels.includes(each)).map((segment) => ({segment, ...layerOf(pixels, 6, segment)}));
}

test('a later mask takes the place of an earlier one', () => {
    const slices = new Slices(['2.....']);
    const drawing = new Drawing(slices);
    drawing.draw(0, layers('111...'), true);
    assert.equal(slices.text(), '111...');
    drawing.draw(0, layers('..11..'));
    assert.equal(slices.text(), '2.11..', 'what was below comes back');
});

test('strokes of the user survive masks that come later', () => {
    const slices = new Slices(['......']);
    const drawing = new Drawing(slices);
    drawing.draw(0, layers('1111..'), true);
    slices.brush('.11122');
    drawing.draw(0, layers('111111'), true);
    assert.equal(slices.text(), '.11122');
    drawing.draw(0, layers('11....'));
    assert.equal(slices.text(), '.1..22');
    assert.deepEqual([...drawing.edited(0)].sort(), [1, 2]);
});

test('a mask that nobody touched counts as such', () => {
    const slices = new Slices(['2222..'], {locked: [2]});
    const drawing = new Drawing(slices);
    drawing.draw(0, layers('111111'));
    assert.equal(slices.text(), '222211', 'locked segments stay');
    assert.deepEqual(drawing.edited(0), new Set());
});

test('segments that are kept stay, and those that are not give way', () => {
    const slices = new Slices(['.2233.'], {segments: [1, 2, 3]});
    new Drawing(slices, {kept: new Set([2])}).draw(0, layers('111111'));
    assert.equal(slices.text(), '122111');
});

test('nothing is drawn into a segment that is locked or gone', () => {
    const slices = new Slices(['1.....'], {locked: [1]});
    new Drawing(slices).draw(0, layers('.11...'));
    assert.equal(slices.text(), '1.....');
    slices.holds = new Set();
    slices.has = new Set([2]);
    new Drawing(slices).draw(0, layers('.11...'));
    assert.equal(slices.text(), '1.....');
});

test('a second run replaces what the first one found', () => {
    const slices = new Slices(['111.2.']);
    new Drawing(slices, {replaced: new Set([1])}).draw(0, layers('...1..'));
    assert.equal(slices.text(), '...12.');
});

test('what was only provisional goes at the end, strokes stay', () => {
    const slices = new Slices(['2.....', '......']);
    const drawing = new Drawing(slices);
    drawing.draw(0, layers('1111..'), true);
    drawing.draw(1, layers('1111..'), true);
    drawing.draw(1, layers('.11...'));
    slices.brush('111122');
    assert.deepEqual(drawing.settle(), [0]);
    assert.equal(slices.text(0), '2...22');
    assert.equal(slices.text(1), '.11...');
    assert.deepEqual(drawing.slices, [1]);
});

test('what is the whole result empties the other slices, strokes stay', () => {
    const slices = new Slices(['1.....', '2.....', '......', '2.1...']);
    const drawing = new Drawing(slices, {replaced: new Set([1])});
    drawing.draw(2, layers('11....'), true);
    slices.brush('112...', 2);
    assert.deepEqual(drawing.clear(new Set([3])), [0, 2]);
    assert.deepEqual([0, 1, 2, 3].map((k) => slices.text(k)), ['......', '2.....', '..2...', '2.1...']);
});

test('undo brings back what was there, not what the user drew elsewhere', () => {
    const slices = new Slices(['22....'], {segments: [1, 2, 3]});
    const drawing = new Drawing(slices);
    drawing.draw(0, layers('.111..'));
    slices.brush('2.1113'); // one pixel erased, one added, one of another segment
    assert.deepEqual(drawing.undo(new Set([1])), [0]);
    assert.equal(slices.text(), '22...3');
});

test('undo does not bring back a segment that was deleted since', () => {
    const slices = new Slices(['22....']);
    const drawing = new Drawing(slices);
    drawing.draw(0, layers('11....'));
    slices.has = new Set([1]);
    drawing.undo(new Set([1]));
    assert.equal(slices.text(), '......');
});
