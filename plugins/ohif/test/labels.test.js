import assert from 'node:assert/strict';
import test from 'node:test';

import {hexOf, rgbOf, segmentFor} from '../src/labels.js';

const BY_HAND = {index: 1, label: 'Brain', locked: false};
const BY_MODEL = {index: 4, label: 'Hirn', locked: false};
const FROM_MODEL = {model: 'brain', version: '1', label: 'Brain', edited: false};

test('a label gets a segment of its own, under a free name', () => {
    assert.deepEqual(segmentFor([], new Map(), 'brain', 'Brain'), {index: 1, label: 'Brain', isNew: true});
    assert.deepEqual(
        segmentFor([BY_HAND, BY_MODEL], new Map(), 'brain', 'Brain'), {index: 5, label: 'Brain 2', isNew: true});
});

test('a run takes up the segment of an earlier one, whatever it is called now', () => {
    const origins = new Map([[4, FROM_MODEL]]);
    assert.deepEqual(
        segmentFor([BY_HAND, BY_MODEL], origins, 'brain', 'Brain'), {index: 4, label: 'Hirn', isNew: false});
    assert.ok(segmentFor([BY_HAND, BY_MODEL], origins, 'other', 'Brain').isNew);
    assert.ok(segmentFor([BY_HAND, BY_MODEL], origins, 'brain', 'Skull').isNew);
});

test('a segment that the user has changed or locked is kept', () => {
    const edited = new Map([[4, {...FROM_MODEL, edited: true}]]);
    assert.ok(segmentFor([BY_MODEL], edited, 'brain', 'Brain').isNew);
    assert.ok(segmentFor([{...BY_MODEL, locked: true}], new Map([[4, FROM_MODEL]]), 'brain', 'Brain').isNew);
});

test('a full labelmap says so', () => {
    assert.throws(() => segmentFor([{...BY_HAND, index: 255}], new Map(), 'brain', 'x'), /full/);
});

test('colours', () => {
    assert.deepEqual(rgbOf('#0a10ff'), [10, 16, 255]);
    assert.equal(hexOf([10, 16, 255, 128]), '#0a10ff');
});
