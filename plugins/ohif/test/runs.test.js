import assert from 'node:assert/strict';
import test from 'node:test';

import {Packed, layerOf, paint} from '../src/runs.js';

test('the example of docs/protocol.md', () => {
    const pixels = new Uint8Array(210 * 4);
    paint(pixels, 210, {box: [5, 1, 205, 3], runs: 'AALGAcgB'}, 3);
    const painted = [...pixels.keys()].filter((at) => pixels[at]);
    assert.deepEqual(painted.slice(0, 3), [215, 216, 425]); // (5, 1), (6, 1), (5, 2)
    assert.equal(painted.length, 202);
    assert.equal(painted.at(-1), 2 * 210 + 204);
    assert.ok(painted.every((at) => pixels[at] === 3));
});

test('a pixel off the origin of a slice that is not square', () => {
    const pixels = new Uint8Array(7 * 3);
    pixels[2 * 7 + 5] = 9;
    assert.deepEqual(layerOf(pixels, 7, 9), {box: [5, 2, 6, 3], runs: 'AAE='});
    assert.equal(layerOf(pixels, 7, 8), null);
});

test('what is coded and painted again is the same', () => {
    const columns = 37;
    for (let seed = 1; seed < 60; seed += 1) {
        const random = generator(seed);
        const pixels = Uint8Array.from({length: columns * 23}, () => (random() < seed / 60 ? 2 : 5 * (random() < 0.5)));
        for (const value of [2, 5]) {
            const again = new Uint8Array(pixels.length);
            const layer = layerOf(pixels, columns, value);
            if (layer) {
                paint(again, columns, layer, value);
            }
            assert.deepEqual(again, pixels.map((each) => (each === value ? value : 0)));
        }
    }
});

test('a mask that does not fit is refused', () => {
    const pixels = new Uint8Array(12);
    assert.throws(() => paint(pixels, 4, {box: [2, 0, 5, 1], runs: 'AAM='}, 1), /larger than its slice/);
    assert.throws(() => paint(pixels, 4, {box: [0, 0, 2, 2], runs: 'AAM='}, 1), /do not fill/);
    assert.throws(() => paint(pixels, 4, {box: [0, 0, 2, 2], runs: 'AAU='}, 1), /do not fill/);
});

test('a packed slice is what it was', () => {
    for (const pixels of [new Uint8Array(0), new Uint8Array(9), Uint8Array.of(1, 1, 0, 255, 255, 0, 2), Uint16Array.of(300, 300, 1)]) {
        assert.deepEqual(new Packed(pixels).unpack(), pixels);
    }
});

function generator(seed) {
    let state = seed;
    return () => {
        state = state * 48271 % 2147483647;
        return state / 2147483647;
    };
}
