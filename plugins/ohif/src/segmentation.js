/*
 * The request that stores the labelmap on screen. See docs/protocol.md, "segmentations".
 */

import {layerOf} from './runs.js';

/**
 * Return the body of `POST /v1/segmentations`; segments without a voxel are omitted.
 *
 * @param {import('./labelmap.js').Labelmap} labelmap
 * @param {string} image the server's name for the series
 * @param {string} description
 * @throws {Error} if there is nothing to store
 */
export function segmentationOf(labelmap, image, description) {
    const slices = [];
    const found = new Set();
    for (let k = 0; k < labelmap.size; k += 1) {
        const pixels = labelmap.read(k);
        const values = [...new Set(pixels)].filter((value) => value !== 0).sort((a, b) => a - b);
        if (values.length) {
            values.forEach((value) => found.add(value));
            slices.push({
                ...labelmap.nameOf(k),
                layers: values.map((label) => ({label, ...layerOf(pixels, labelmap.columns, label)}))
            });
        }
    }
    if (!slices.length) {
        throw new Error('There is nothing to store: no voxel is in a segment.');
    }
    const segments = labelmap.list().filter(({index}) => found.has(index))
        .map((segment) => ({...segmentOf(segment), ...drawnBy(labelmap.origins.get(segment.index), segment)}));
    return {image, description, segments, slices};
}

function segmentOf({index, label, color}) {
    return {label: index, name: label, color};
}

/** Return the keys that state whether a model or a person drew a segment. */
function drawnBy(origin, {label}) {
    if (!origin) {
        return {edited: true};
    }
    const {model, version, anatomy, edited} = origin;
    // a renamed segment may be another structure
    const isNamed = anatomy && label === origin.label;
    return {algorithm: {model, version}, ...(isNamed && {anatomy}), edited};
}
