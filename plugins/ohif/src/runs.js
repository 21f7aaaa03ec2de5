/*
 * Encoding and decoding of masks: run lengths over a box, as base64 of unsigned LEB128, beginning
 * with a run of pixels outside the mask. See docs/protocol.md, "mask".
 */

/**
 * Set the pixels of a mask to `value`.
 *
 * @param {Uint8Array} pixels of the whole slice, row by row
 * @param {number} columns of the slice
 * @param {{box: number[], runs: string}} layer `box` is [i0, j0, i1, j1], half-open
 * @param {number} value
 * @throws {RangeError} if the box extends beyond the slice or the runs do not fill the box
 */
export function paint(pixels, columns, {box: [i0, j0, i1, j1], runs}, value) {
    const width = i1 - i0;
    const area = width * (j1 - j0);
    if (i0 < 0 || j0 < 0 || i1 > columns || j1 * columns > pixels.length || width < 0 || j1 < j0) {
        throw new RangeError(`a mask in the box ${[i0, j0, i1, j1]} is larger than its slice`);
    }
    let at = 0;
    let inside = false;
    for (const length of decode(runs)) {
        const end = at + length;
        if (end > area) {
            break;
        }
        while (inside && at < end) {
            const row = Math.floor(at / width);
            const column = at - row * width;
            const step = Math.min(end - at, width - column);
            const start = (j0 + row) * columns + i0 + column;
            pixels.fill(value, start, start + step);
            at += step;
        }
        at = end;
        inside = !inside;
    }
    if (at !== area) {
        throw new RangeError(`the runs of a mask do not fill its box ${[i0, j0, i1, j1]}`);
    }
}

/** Return {box, runs} of the pixels that are `value`, null if there are none. */
export function layerOf(pixels, columns, value) {
    const box = boundsOf(pixels, columns, value);
    if (!box) {
        return null;
    }
    const [i0, j0, i1, j1] = box;
    const lengths = [];
    let length = 0;
    let inside = false;
    for (let j = j0; j < j1; j += 1) {
        for (let at = j * columns + i0; at < j * columns + i1; at += 1) {
            if ((pixels[at] === value) !== inside) {
                lengths.push(length);
                length = 0;
                inside = !inside;
            }
            length += 1;
        }
    }
    lengths.push(length);
    return {box, runs: encode(lengths)};
}

function boundsOf(pixels, columns, value) {
    const first = pixels.indexOf(value);
    if (first < 0) {
        return null;
    }
    const j0 = Math.floor(first / columns);
    const j1 = Math.floor(pixels.lastIndexOf(value) / columns) + 1;
    let i0 = columns;
    let i1 = 0;
    for (let j = j0; j < j1; j += 1) {
        const row = pixels.subarray(j * columns, (j + 1) * columns);
        const left = row.indexOf(value);
        if (left >= 0) {
            i0 = Math.min(i0, left);
            i1 = Math.max(i1, row.lastIndexOf(value) + 1);
        }
    }
    return [i0, j0, i1, j1];
}

function* decode(text) {
    const bytes = atob(text);
    let number = 0;
    let scale = 1;
    for (let at = 0; at < bytes.length; at += 1) {
        const byte = bytes.charCodeAt(at);
        number += (byte & 127) * scale;
        scale *= 128;
        if (byte < 128) {
            yield number;
            number = 0;
            scale = 1;
        }
    }
}

function encode(lengths) {
    const bytes = [];
    for (let length of lengths) {
        while (length > 127) {
            bytes.push(String.fromCharCode((length & 127) | 128));
            length >>>= 7;
        }
        bytes.push(String.fromCharCode(length));
    }
    return btoa(bytes.join(''));
}

/** A slice compressed by run lengths, to save memory. */
export class Packed {
    /** @param {Uint8Array} pixels of which no reference is kept */
    constructor(pixels) {
        const values = [];
        const ends = [];
        for (let at = 0; at < pixels.length;) {
            const value = pixels[at];
            do {
                at += 1;
            } while (pixels[at] === value);
            values.push(value);
            ends.push(at);
        }
        this._array = pixels.constructor;
        this._values = this._array.from(values);
        this._ends = Uint32Array.from(ends);
    }

    /** Return the pixels in a new array. */
    unpack() {
        const pixels = new this._array(this._ends.at(-1) ?? 0);
        let at = 0;
        this._ends.forEach((end, n) => {
            pixels.fill(this._values[n], at, end);
            at = end;
        });
        return pixels;
    }
}
