/*
 * One job, from its request to its last event; its results are drawn as they arrive.
 */

import {Drawing} from './drawing.js';
import {segmentFor} from './labels.js';
import {Latest} from './retry.js';

const FRAME_MS = 12; // of work before the viewer may render
const SETTLED_MS = 500;
const SETTLING = 6; // redraws; each pause is twice as long as the previous one

export class Run {
    /**
     * @param {import('./client.js').Client} client
     * @param {{job: string, position: number}} job
     * @param {object} model as in docs/protocol.md#models
     * @param {{labelmap: import('./labelmap.js').Labelmap, isNew: boolean}} target `isNew`: created
     *     for this run, with a segment for the model's first label
     * @param {() => void} changed called when there is something new to show
     */
    constructor(client, {job, position}, model, {labelmap, isNew}, changed) {
        this._client = client;
        this._changed = changed;
        this._following = new AbortController();
        this._looks = new Latest();
        this.job = job;
        this.model = model;
        this.labelmap = labelmap;
        /** 'waiting', 'running', 'done', 'stopped' or 'failed' */
        this.state = 'waiting';
        this.position = position;
        this.percent = 0;
        this.secondsLeft = null;
        /** The message while the server does not respond and a request is being retried. */
        this.waiting = '';
        /** The server's warnings, and why the run failed. */
        this.messages = [];
        this._targets = new Map(); // label: index of its segment
        this._isNew = isNew;
        this._made = new Set(); // segments created by this run
        if (isNew) {
            this._note(1, model.labels[0].name, model.version);
            this._made.add(1);
        }
        this._missing = new Set(); // slices from the server that are not on screen
        this._drawing = new Drawing(labelmap, this._split());
        this._unshown = new Set(); // slices drawn since the viewer last rendered
        this._turn = null; // resolves when it has rendered
    }

    get active() {
        return this.state === 'waiting' || this.state === 'running';
    }

    /** The number of slices that it has drawn. */
    get slices() {
        return this._drawing.slices.length;
    }

    /** Draw the results of the job until it ends. */
    async follow() {
        const {signal} = this._following;
        const onWait = (text) => {
            this.waiting = text;
            this._changed();
        };
        try {
            for await (const event of this._client.events(this.job, {signal, onWait})) {
                await this._take(event);
                this._changed();
            }
        } catch (error) {
            this._giveUp(error);
        }
        if (this.active) {
            this.state = 'stopped';
        }
        this._looks.stop();
        await this._turn;
        if (this.labelmap.exists) {
            const drawing = this._drawing;
            this.labelmap.show(this.state === 'done' ? drawing.clear(new Set(drawing.slices)) : drawing.settle());
        }
        this._changed();
        await this._settle();
    }

    /**
     * Stop at once; final results are kept. Resolves when the server has cancelled the job; rejects
     * with a Problem.
     */
    async stop(patience) {
        if (this.active) {
            this.state = 'stopped';
            this._following.abort();
            this._changed();
            await this._client.cancel(this.job, patience);
        }
    }

    /** Stop because the page is closing. */
    abandon() {
        if (this.active) {
            this._client.abandon(this.job);
        }
    }

    /** Report the slice that the user is viewing, unless the server has refused such a report. */
    async look(slice) {
        const key = JSON.stringify(slice);
        if (this.state === 'running' && slice && this._looked !== key && !this._deaf) {
            this._looked = key;
            await this._looks.send((signal) => this._client.look(this.job, {slice}, {signal})).catch((error) => {
                this._deaf = !error.isTransient;
            });
        }
    }

    /** Restore the labelmap as it was before the run. */
    undo() {
        if (!this.labelmap.exists) {
            return;
        }
        this.labelmap.show(this._drawing.undo(this._made));
        this._made.forEach((index) => {
            this.labelmap.remove(index);
            this.labelmap.origins.delete(index);
        });
        if (this._isNew && !this.labelmap.list().length) {
            this.labelmap.delete();
        }
    }

    /** Record which segments the user has changed since. */
    noteEdits() {
        const {origins} = this.labelmap;
        for (const k of this._drawing.slices) {
            for (const index of this._drawing.edited(k)) {
                if (origins.has(index)) {
                    origins.get(index).edited = true;
                }
            }
        }
    }

    /** Return which existing segments are replaced and which are kept; the user's are always kept. */
    _split() {
        const replaced = new Set();
        const kept = new Set();
        for (const {index, locked} of this.labelmap.list()) {
            const origin = this.labelmap.origins.get(index);
            if (!origin || origin.edited || locked) {
                kept.add(index);
            } else if (origin.model === this.model.name) {
                replaced.add(index);
            }
        }
        return {replaced, kept};
    }

    async _take(event) {
        switch (event.event) {
        case 'started':
            this.state = 'running';
            this._labels = event.labels;
            this._version = event.version;
            break;
        case 'mask':
            await this._draw(event);
            break;
        case 'progress':
            this.percent = 100 * event.tiles_done / event.tiles;
            this.secondsLeft = event.seconds_left;
            break;
        case 'warned':
            this.messages.push(event.message);
            break;
        case 'done':
            this.state = 'done';
            this.percent = 100;
            if (this._missing.size) {
                this.messages.push(`${this._missing.size} slices of the series are not on screen.`);
            }
            break;
        case 'failed':
            this._fail([event.message, event.remedy].filter(Boolean).join('; '));
            break;
        case 'cancelled':
            this.state = 'stopped';
            break;
        }
    }

    /** Draw again for viewports that were still being set up and missed the results. */
    async _settle() {
        for (let times = 0; times < SETTLING; times++) {
            await pause(SETTLED_MS * 2 ** times);
            if (!this.labelmap.exists || (times && this.labelmap.isDrawn)) {
                return;
            }
            this.labelmap.show(this._drawing.slices);
        }
    }

    /** Fail with the message of an error, and cancel the job. */
    _giveUp(error) {
        this._fail(error.message);
        this._following.abort();
        this._client.cancel(this.job).catch(() => {}); // the server may be gone
    }

    _fail(message) {
        this.state = 'failed';
        this.messages.push(message);
    }

    async _draw({slices, provisional, whole}) {
        if (whole) {
            this._clear(slices);
        }
        for (const slice of slices) {
            if (this._following.signal.aborted) {
                break;
            }
            if (!this.labelmap.exists) {
                throw new Error('The segmentation was deleted, so the run was stopped.');
            }
            const k = this.labelmap.numberOf(slice);
            if (k === undefined) {
                this._missing.add(slice.k);
                continue;
            }
            this._turn ??= this._giveTurn();
            this._drawing.draw(k, slice.layers.map((layer) => (
                {...layer, segment: this._target(layer.label)})), provisional);
            this._unshown.add(k);
            if (performance.now() - this._began > FRAME_MS) {
                await this._turn;
            }
        }
    }

    /** Empty all slices but these. */
    _clear(slices) {
        const {exists} = this.labelmap;
        const cleared = exists ? this._drawing.clear(new Set(slices.map((each) => this.labelmap.numberOf(each)))) : [];
        if (cleared.length) {
            this._turn ??= this._giveTurn();
            cleared.forEach((k) => this._unshown.add(k));
        }
    }

    /** Have the viewer show what was drawn, once for any number of events. */
    async _giveTurn() {
        this._began = performance.now();
        await pause(); // a timer, since a hidden tab has no animation frames
        this._turn = null;
        try {
            this.labelmap.show(this.labelmap.exists ? [...this._unshown] : []);
        } catch (error) {
            this._giveUp(error); // nobody may be waiting for this turn
        }
        this._unshown.clear();
    }

    /** Return the segment for a label of the model, which is created for its first voxel. */
    _target(label) {
        const known = this._targets.get(label);
        if (known !== undefined) {
            return known;
        }
        const {name, color, anatomy} = this._labels[label - 1];
        const segment = segmentFor(this.labelmap.list(), this.labelmap.origins, this.model.name, name);
        if (segment.isNew) {
            this.labelmap.add(segment.index, segment.label, color);
            this._made.add(segment.index);
        }
        this._note(segment.index, name, this._version, anatomy);
        this._targets.set(label, segment.index);
        return segment.index;
    }

    _note(index, label, version, anatomy) {
        this.labelmap.origins.set(index, {
            model: this.model.name, version, label, anatomy, edited: false
        });
    }
}

/** Resolve after a pause. */
export function pause(milliseconds = 0) {
    return new Promise((resolve) => { setTimeout(resolve, milliseconds); });
}
