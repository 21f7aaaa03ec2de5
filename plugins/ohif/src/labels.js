/*
 * The choice of the segment of a labelmap in which a label of a model is drawn.
 */

const MOST = 255; // a labelmap has one byte per voxel

/**
 * @typedef {object} Segment
 * @property {number} index
 * @property {string} label its name, which the user can change
 * @property {boolean} locked
 */

/**
 * @typedef {object} Origin the origin of a segment
 * @property {string} model
 * @property {string} version of the model
 * @property {string} label of the model
 * @property {{code: string, meaning: string}} [anatomy] of the label
 * @property {boolean} edited whether the user has changed it since
 */

/**
 * Return the segment for a label of a model: that of an earlier run if the user has not changed it,
 * otherwise a new one with an unused name.
 *
 * @param {Segment[]} segments of the labelmap
 * @param {Map<number, Origin>} origins of the segments that runs have drawn
 * @param {string} model
 * @param {string} label
 * @returns {{index: number, label: string, isNew: boolean}}
 * @throws {Error} if the labelmap is full
 */
export function segmentFor(segments, origins, model, label) {
    const earlier = segments.find(({index, locked}) => {
        const origin = origins.get(index);
        return origin && origin.model === model && origin.label === label && !origin.edited && !locked;
    });
    if (earlier) {
        return {index: earlier.index, label: earlier.label, isNew: false};
    }
    return {...freeSegment(segments, label), isNew: true};
}

/**
 * Return the number and name for a new segment.
 *
 * @param {Segment[]} segments of the labelmap
 * @param {string} label
 * @returns {{index: number, label: string}}
 * @throws {Error} if the labelmap is full
 */
export function freeSegment(segments, label) {
    const index = Math.max(0, ...segments.map((each) => each.index)) + 1;
    if (index > MOST) {
        throw new Error(`This segmentation is full: it has ${MOST} segments. Start a new one.`);
    }
    return {index, label: freeName(label, segments)};
}

function freeName(name, segments) {
    const taken = new Set(segments.map((each) => each.label));
    let free = name;
    for (let n = 2; taken.has(free); n += 1) {
        free = `${name} ${n}`;
    }
    return free;
}

/** Return [red, green, blue], each from 0 to 255, of "#rrggbb". */
export function rgbOf(hex) {
    return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

/** Return "#rrggbb" of [red, green, blue, ...]. */
export function hexOf(rgb) {
    return `#${[...rgb].slice(0, 3).map((each) => Math.round(each).toString(16).padStart(2, '0')).join('')}`;
}
