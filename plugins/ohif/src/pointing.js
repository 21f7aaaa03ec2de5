/*
 * One object that is segmented with prompts: its prompts, and the server's answer to each.
 */

import {Drawing} from './drawing.js';
import {layerOf} from './runs.js';

/**
 * @typedef {object} Step
 * @property {object} prompt as in docs/protocol.md#prompts
 * @property {object} mark its mark in the viewer
 * @property {object[] | null} slices of the answer to it and all prompts before it; null until there
 *     is one
 */

export class Pointing {
    /**
     * Begin with the current content of the segment, which the prompts correct.
     *
     * @param {(request: object) => Promise<{slices: object[], started: object}>} ask sends a request
     * @param {object} request without the prompts
     * @param {import('./labelmap.js').Labelmap} labelmap
     * @param {number} segment in which the object is drawn
     */
    constructor(ask, request, labelmap, segment) {
        this._ask = ask;
        this._request = request;
        this._initial = slicesOf(labelmap, segment);
        const others = [...labelmap.segments()].filter((each) => each !== segment);
        this._drawing = new Drawing(labelmap, {replaced: new Set([segment]), kept: new Set(others)});
        this.labelmap = labelmap;
        this.segment = segment;
        /** @type {Step[]} */
        this.steps = [];
        /** @type {Step[]} oldest first */
        this.undone = [];
    }

    /** Return whether its request is equal to `request`, apart from the prompts. */
    isFor(request) {
        return JSON.stringify(request) === JSON.stringify(this._request);
    }

    /** Whether the user has drawn in the segment since the last answer. */
    get isEdited() {
        return this._drawing.slices.some((k) => this._drawing.edited(k).has(this.segment));
    }

    /** Whether other segments cover the whole last answer. */
    get isHidden() {
        return Boolean(this.steps.at(-1)?.slices?.length) &&
            !this._drawing.slices.some((k) => this.labelmap.read(k).includes(this.segment));
    }

    /** Whether the last prompt has no answer yet. */
    get waits() {
        return this.steps.length > 0 && !this.steps.at(-1).slices;
    }

    /** Add a prompt; `answer` sends it. */
    add(prompt, mark) {
        this.steps.push({prompt, mark, slices: null});
        this.undone = [];
    }

    /**
     * Send requests until the last prompt has an answer, and draw it.
     *
     * Prompts that are added meanwhile are sent together. Rejects with a Problem; a prompt that the
     * server refused is removed, one that it did not receive is kept.
     */
    answer() {
        this._answering ??= this._answer().finally(() => { this._answering = null; });
        return this._answering;
    }

    /** Undo the last prompt; return its step, null if there is none. */
    undo() {
        const step = this.steps.pop() ?? null;
        if (step) {
            this.undone.push(step);
            this._draw();
        }
        return step;
    }

    /** Redo the prompt that was undone last; return its step, null if there is none. */
    redo() {
        const step = this.undone.pop() ?? null;
        if (step) {
            this.steps.push(step);
            this._draw();
        }
        return step;
    }

    async _answer() {
        while (this.waits) {
            const step = this.steps.at(-1);
            const prompts = this.steps.map((each) => each.prompt);
            try {
                const initial = this._initial.length ? {initial: {slices: this._initial}} : {};
                const answer = await this._ask({...this._request, prompts, ...initial});
                step.slices = answer.slices;
                this._started = answer.started;
            } catch (error) {
                if (!error.isTransient) {
                    this.steps = this.steps.filter((each) => each !== step);
                    error.step = step;
                }
                throw error;
            }
            if (step === this.steps.at(-1)) {
                this._draw();
            }
        }
    }

    /** Draw the answer to the last prompt that has one; if there is none, the earlier content. */
    _draw() {
        const {labelmap, segment} = this;
        if (!labelmap.exists) {
            return;
        }
        const answered = this.steps.findLast((each) => each.slices);
        if (!answered) {
            labelmap.show(this._drawing.undo(new Set()));
            return;
        }
        const layers = new Map([
            ...this._drawing.slices.map((k) => [k, []]),
            ...this._initial.map(({slice}) => [labelmap.numberOf(slice), []])
        ]);
        for (const slice of answered.slices) {
            const k = labelmap.numberOf(slice);
            if (k !== undefined) {
                layers.set(k, slice.layers.map((layer) => ({...layer, segment})));
            }
        }
        layers.forEach((drawn, k) => this._drawing.draw(k, drawn));
        labelmap.show([...layers.keys()]);
        const {model, version, labels} = this._started;
        const [{name: label, anatomy}] = labels;
        labelmap.origins.set(segment, {model, version, label, anatomy, edited: true});
    }
}

/** Return the content of a segment, as `initial` in docs/protocol.md#prompts. */
function slicesOf(labelmap, segment) {
    const slices = [];
    for (let k = 0; k < labelmap.size; k += 1) {
        const layer = layerOf(labelmap.read(k), labelmap.columns, segment);
        if (layer) {
            slices.push({slice: labelmap.nameOf(k), ...layer});
        }
    }
    return slices;
}
