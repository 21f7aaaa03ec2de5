/*
 * Draws the results of one run into a labelmap without losing the user's strokes or the earlier
 * content.
 *
 * For each slice it stores the content before the run (`before`) and after the run drew it (`drawn`).
 * A pixel in which the labelmap differs from `drawn` has been changed by the user and is kept.
 */

import {Packed, paint} from './runs.js';

/**
 * @typedef {object} Canvas a labelmap
 * @property {number} size the number of its slices
 * @property {number} columns of its slices
 * @property {(k: number) => Uint8Array} read returns the segment of each pixel of slice k, row by row;
 *     0 for none
 * @property {(k: number, pixels: Uint8Array) => void} write
 * @property {() => Set<number>} segments returns its segments
 * @property {() => Set<number>} locked returns the locked segments, which must not be overwritten
 */

export class Drawing {
    /**
     * @param {Canvas} canvas
     * @param {{replaced?: Set<number>, kept?: Set<number>}} segments `replaced`: those of an earlier
     *     run, which are drawn again; `kept`: those that are never overwritten, like locked ones
     */
    constructor(canvas, {replaced = new Set(), kept = new Set()} = {}) {
        this._canvas = canvas;
        this._replaced = replaced;
        this._kept = kept;
        this._slices = new Map(); // k: {before, drawn, provisional}
    }

    /** The slices that it has drawn, each by its k. */
    get slices() {
        return [...this._slices.keys()];
    }

    /**
     * Draw the complete slice k; it replaces what this run drew there earlier.
     *
     * A provisional slice that becomes empty remains provisional, since this is also how the server
     * clears provisional slices before it reports that a run was cancelled or has failed.
     *
     * @param {number} k
     * @param {{segment: number, box: number[], runs: string}[]} layers as in docs/protocol.md#mask
     * @param {boolean} provisional whether `settle` restores the slice
     */
    draw(k, layers, provisional = false) {
        const current = this._canvas.read(k);
        const known = this._slices.get(k);
        const before = known ? known.before.unpack() : current.slice();
        const wanted = this._compose(before, layers);
        const drawn = this._merge(k, current, known ? known.drawn.unpack() : before, wanted);
        this._slices.set(k, {
            before: known ? known.before : new Packed(before),
            drawn: new Packed(drawn),
            provisional: provisional || Boolean(known?.provisional && !layers.length)
        });
    }

    /**
     * Empty the slices that are not in `listed`, where this run or the earlier one drew; return those
     * that changed.
     *
     * @param {Set<number>} listed
     */
    clear(listed) {
        const isOld = Uint8Array.from({length: 256}, (_, value) => Number(this._replaced.has(value)));
        const isDrawn = (k) => this._slices.has(k) || this._canvas.read(k).some((value) => isOld[value]);
        const others = Array.from({length: this._canvas.size}, (_, k) => k).filter((k) => !listed.has(k) && isDrawn(k));
        others.forEach((k) => this.draw(k, []));
        return others;
    }

    /** Restore the slices that are only provisional; return them. */
    settle() {
        const open = [...this._slices].filter(([, slice]) => slice.provisional);
        open.forEach(([k, slice]) => {
            const before = slice.before.unpack();
            this._merge(k, this._canvas.read(k), slice.drawn.unpack(), before);
            this._slices.delete(k);
        });
        return open.map(([k]) => k);
    }

    /**
     * Restore each slice as it was before the run; return the slices that changed.
     *
     * @param {Set<number>} own segments that the run created: the user's strokes in them are removed
     *     too
     */
    undo(own) {
        const segments = this._canvas.segments();
        this._slices.forEach((slice, k) => {
            const current = this._canvas.read(k);
            const before = slice.before.unpack();
            const drawn = slice.drawn.unpack();
            const isTheirs = (value) => value !== 0 && !own.has(value);
            // an earlier segment may have been deleted since
            const back = (value) => (segments.has(value) ? value : 0);
            this._canvas.write(k, current.map((value, at) => (
                value !== drawn[at] && isTheirs(value) ? value : back(before[at]))));
        });
        const changed = this.slices;
        this._slices.clear();
        return changed;
    }

    /** Return the segments that the user has changed in slice k since the run drew it. */
    edited(k) {
        const segments = new Set();
        const slice = this._slices.get(k);
        if (slice) {
            const current = this._canvas.read(k);
            slice.drawn.unpack().forEach((value, at) => {
                if (current[at] !== value) {
                    segments.add(value).add(current[at]);
                }
            });
        }
        segments.delete(0);
        return segments;
    }

    _compose(before, layers) {
        const pixels = before.map((value) => (this._replaced.has(value) ? 0 : value));
        const segments = this._canvas.segments();
        const locked = this._canvas.locked();
        for (const layer of layers) {
            if (segments.has(layer.segment) && !locked.has(layer.segment)) {
                paint(pixels, this._canvas.columns, layer, layer.segment);
            }
        }
        return pixels;
    }

    /**
     * Write `wanted` except where the user has drawn since, or the segment there is locked or kept.
     * Return the slice as drawn by the run.
     */
    _merge(k, current, drawn, wanted) {
        const kept = new Set([...this._kept, ...this._canvas.locked()]);
        const ours = wanted.slice();
        const pixels = current.map((value, at) => {
            if (value !== drawn[at]) {
                return value; // the user's
            }
            if (kept.has(value)) {
                ours[at] = value;
            }
            return ours[at];
        });
        this._canvas.write(k, pixels);
        return ours;
    }
}
