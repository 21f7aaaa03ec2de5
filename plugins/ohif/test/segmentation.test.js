import assert from 'node:assert/strict';
import test from 'node:test';

import {segmentationOf} from '../src/segmentation.js';

function labelmap(slices, segments) {
    return {
        columns: 3,
        size: slices.length,
        origins: new Map([
            [2, {model: 'brain', version: '1', label: 'Brain', anatomy: BRAIN, edited: false}],
            [4, {model: 'brain', version: '1', label: 'Brain', anatomy: BRAIN, edited: true}]
        ]),
        read: (k) => Uint8Array.from(slices[k]),
        nameOf: (k) => ({instance: `1.2.${k}`, frame: 1}),
        list: () => segments
    };
}

const BRAIN = {code: '12738006', meaning: 'Brain'};
const SEGMENTS = [
    {index: 2, label: 'Hirn', color: [1, 2, 3]},
    {index: 3, label: 'empty', color: [4, 5, 6]},
    {index: 4, label: 'Brain', color: [1, 1, 1]},
    {index: 7, label: 'by hand', color: [7, 8, 9]}
];

test('what is on screen, and who drew it', () => {
    const slices = [[0, 0, 0, 0, 0, 0], [4, 2, 2, 0, 0, 7]];
    assert.deepEqual(segmentationOf(labelmap(slices, SEGMENTS), 'dicomweb:a/b/c', 'mine'), {
        image: 'dicomweb:a/b/c',
        description: 'mine',
        segments: [
            {label: 2, name: 'Hirn', color: [1, 2, 3], algorithm: {model: 'brain', version: '1'}, edited: false},
            {
                label: 4, name: 'Brain', color: [1, 1, 1],
                algorithm: {model: 'brain', version: '1'}, anatomy: BRAIN, edited: true
            },
            {label: 7, name: 'by hand', color: [7, 8, 9], edited: true}
        ],
        slices: [{
            instance: '1.2.1',
            frame: 1,
            layers: [
                {label: 2, box: [1, 0, 3, 1], runs: 'AAI='},
                {label: 4, box: [0, 0, 1, 1], runs: 'AAE='},
                {label: 7, box: [2, 1, 3, 2], runs: 'AAE='}
            ]
        }]
    });
});

test('nothing to store is said, not stored', () => {
    assert.throws(() => segmentationOf(labelmap([[0, 0, 0]], SEGMENTS), 'x', 'y'), /nothing to store/);
});
