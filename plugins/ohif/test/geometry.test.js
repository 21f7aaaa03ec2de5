import assert from 'node:assert/strict';
import test from 'node:test';

import {frameOf, nearestPlane, sliceKey} from '../src/geometry.js';

test('the nearest plane of an oblique, reversed series', () => {
    const c = Math.SQRT1_2;
    const [row, column, normal] = [[c, c, 0], [0, 0, -1], [-c, c, 0]];
    const planes = [3, 2, 1, 0].map((n) => ({origin: normal.map((each) => -50 + 2.5 * n * each), row, column}));
    // 30 mm along the rows and 12 down the columns of the slice that comes third, and a little off it
    const point = planes[2].origin.map((each, a) => each + 30 * row[a] + 12 * column[a] + 0.9 * normal[a]);
    assert.equal(nearestPlane(planes, point), 2);
    assert.equal(nearestPlane([], point), -1);
});

test('frames in the image ids of OHIF', () => {
    assert.equal(frameOf('wadors:/dicom-web/studies/1/series/2/instances/3/frames/17'), 17);
    assert.equal(frameOf('wadouri:https://archive/wado?objectUID=1.2&frame=4'), 4);
    assert.equal(frameOf('wadouri:https://archive/wado?objectUID=1.2'), 1);
    assert.equal(sliceKey({instance: '1.2', frame: null}), '1.2/1');
});
