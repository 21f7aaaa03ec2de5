/*
 * Segmentation with prompts, one object after another: the choice of the model and of the segment.
 */

import {requestOf} from './client.js';
import {freeSegment} from './labels.js';
import {Pointing} from './pointing.js';

export class Pointer {
    /**
     * @param {import('./client.js').Client} client
     * @param {import('./viewer.js').Viewer} viewer
     * @param {import('./session.js').Session} session
     */
    constructor(client, viewer, session) {
        this._client = client;
        this._viewer = viewer;
        this._session = session;
        this._asking = new AbortController();
        this._turn = Promise.resolve();
        /** @type {object[]} models that take prompts, as in docs/protocol.md#models */
        this.models = [];
        /** @type {object | null} the chosen one */
        this.model = null;
        this.parameters = {};
        /** Whether a request is sent after each gesture. */
        this.live = true;
        /** @type {Pointing | null} */
        this.current = null;
    }

    /** Offer these models. */
    offer(models) {
        this.models = models;
        this.model = models.find((each) => !each.problem) ?? null;
    }

    /** Add a prompt that the user has drawn: {prompt, mark}. */
    take({prompt, mark}) {
        return this._doing(async () => {
            // one at a time, since the first gesture may have to create the labelmap for the next
            this._turn = this._turn.catch(() => {}).then(() => this._add(prompt, mark));
            await this._turn;
            await (this.live && this._answer());
        });
    }

    /** Send the prompts that have no answer yet. */
    answer() {
        return this._doing(() => this._answer());
    }

    /** Undo the last prompt. */
    undo() {
        return this._doing(async () => {
            const step = this.current?.undo();
            if (step) {
                this._viewer.unmark(step.mark);
            }
        });
    }

    /** Redo the prompt that was undone last. */
    redo() {
        return this._doing(async () => {
            const step = this.current?.redo();
            if (step) {
                this._viewer.mark(step.mark);
                await (this.live && this._answer());
            }
        });
    }

    /** Continue with a new, empty segment. */
    next() {
        return this._doing(async () => {
            const labelmap = this._session.labelmap;
            this.finish();
            if (labelmap && this.model) {
                const {index, label} = freeSegment(labelmap.list(), this.model.labels[0].name);
                labelmap.add(index, label);
                labelmap.activate(index);
            }
        });
    }

    /** Remove the marks of the prompts; the results are kept. */
    finish() {
        this._asking.abort();
        this.current?.steps.forEach(({mark}) => this._viewer.unmark(mark));
        this.current = null;
    }

    async _add(prompt, mark) {
        try {
            this.current = await this._pointing();
        } catch (error) {
            this._viewer.unmark(mark);
            throw error;
        }
        this.current.add(prompt, mark);
    }

    /** Resolve to the object that the next prompt belongs to. */
    async _pointing() {
        const screen = this._viewer.onScreen();
        if (!screen || !this.model) {
            throw new Error(screen ? 'The server has no model that takes prompts.' : 'There is no series on screen.');
        }
        const request = requestOf({
            image: await this._session.nameOf(screen.displaySet, this._patience()),
            model: this.model.name,
            parameters: this.parameters,
            frame_of_reference: this._viewer.frameOfReference(screen),
            format: 'ohif'
        });
        const {labelmap} = await this._session.target(screen, this.model);
        const segment = labelmap.list().find((each) => each.active) ?? labelmap.list()[0];
        if (!segment || segment.locked) {
            throw new Error(segment
                ? `${segment.label} is locked. Unlock it, or choose another segment.`
                : 'There is no segment to draw in. Press "Next object".');
        }
        const {current} = this;
        const goesOn = current?.labelmap === labelmap && current.segment === segment.index &&
            current.isFor(request) && !current.isEdited;
        if (goesOn) {
            return current;
        }
        this.finish();
        return new Pointing((asked) => this._ask(asked), request, labelmap, segment.index);
    }

    async _answer() {
        try {
            await this.current?.answer();
            if (this.current?.isHidden) {
                this._session.tell('The result is covered by other segments, which are not overwritten.');
            }
        } catch (error) {
            if (error.step) {
                this._viewer.unmark(error.step.mark);
            }
            throw error;
        }
    }

    /** Resolve to the server's answer: its slices and its `started` event. */
    async _ask(request) {
        const answer = {slices: [], started: null};
        for (const event of await this._client.segment(requestOf(request), this._patience())) {
            if (event.event === 'started') {
                answer.started = event;
            } else if (event.event === 'mask') {
                answer.slices.push(...event.slices);
            } else if (event.event === 'warned') {
                this._session.tell(event.message);
            } else if (event.event === 'failed') {
                throw new Error([event.message, event.remedy].filter(Boolean).join('; '));
            }
        }
        return answer;
    }

    /** Return how its requests are retried: until `finish` is called or the user presses Stop. */
    _patience() {
        if (this._asking.signal.aborted) {
            this._asking = new AbortController();
        }
        return this._session.patience(this._asking);
    }

    async _doing(action) {
        this._session.tell(null);
        try {
            await action();
        } catch (error) {
            if (error.name !== 'AbortError') {
                this._session.tell(error.message, true);
            }
        }
        this._session.changed();
    }
}
