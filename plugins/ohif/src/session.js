/*
 * What one user does with isoline in one tab: the models, the runs, what is stored. The panel shows
 * it; it goes on while the panel is hidden.
 */

import {requestOf} from './client.js';
import {Pointer} from './pointer.js';
import {pause, Run} from './run.js';
import {segmentationOf} from './segmentation.js';

const LOOK_MS = 500;
const UNDO_MS = 5000; // for the server to stop a run that is taken back

export class Session {
    /**
     * @param {import('./client.js').Client} client
     * @param {import('./viewer.js').Viewer} viewer
     * @param {string} archive what the server calls the archive; '' to ask it
     */
    constructor(client, viewer, archive = '') {
        this._client = client;
        this._viewer = viewer;
        this._archive = archive;
        this._listeners = new Set();
        /** How the user points at objects. */
        this.pointer = new Pointer(client, viewer, this);
        /** @type {object[] | null} that segment whole volumes; null until the server has answered */
        this.models = null;
        /** @type {Run[]} that can be undone, the latest last */
        this.runs = [];
        /** What to tell the user: {text, isError}, null for nothing. */
        this.notice = null;
        /** Whether something is under way during which nothing else may begin. */
        this.busy = false;
        this._waiting = null; // {text, stopping} while something is tried again
    }

    /** Call `listener` when there is something new to show; return how to stop that. */
    subscribe(listener) {
        this._listeners.add(listener);
        const stop = this._viewer.subscribe(listener);
        return () => {
            this._listeners.delete(listener);
            stop();
        };
    }

    /** The run that is going on, or was the last; null for none. */
    get run() {
        return this.runs.at(-1) ?? null;
    }

    /** The labelmap on screen that the user works on, null where there is none. */
    get labelmap() {
        const screen = this._viewer.onScreen();
        return screen && this._viewer.labelmap(screen);
    }

    /** What to tell while a request is tried again, '' while none is. */
    get waiting() {
        return this._waiting?.text ?? '';
    }

    /** Whether there is a series on screen to segment. */
    get hasSeries() {
        return Boolean(this._viewer.onScreen());
    }

    /** Ask the server what it can do. */
    load() {
        return this._doing('Asking the server for its models', async (patience) => {
            this.models = null;
            const models = await this._client.models(patience);
            const ofVolumes = models.filter((each) => each.dimensions?.includes(3));
            // a model may do both: by itself, and better with prompts
            this.models = ofVolumes.filter((each) => each.automatic);
            this.pointer.offer(ofVolumes.filter((each) => each.prompts.length));
        });
    }

    /** Segment the series on screen. */
    async start(model, parameters) {
        let run = null;
        await this._doing('Starting', async (patience) => {
            const screen = this._viewer.onScreen();
            if (!screen) {
                throw new Error('There is no series on screen.');
            }
            this.runs.forEach((each) => each.noteEdits());
            const request = requestOf({
                image: await this.nameOf(screen.displaySet, patience),
                model: model.name,
                parameters,
                slice: this._viewer.look(screen) ?? undefined,
                format: 'ohif'
            });
            const job = await this._client.create(request, patience);
            const target = await this.target(screen, model);
            run = new Run(this._client, job, model, target, () => this.changed());
            this.runs = [...this.runs.filter((each) => each.labelmap.exists), run];
        });
        if (run) {
            const looking = setInterval(() => this._lookFor(run), LOOK_MS);
            await run.follow();
            clearInterval(looking);
        }
    }

    /** Stop the run, or what is tried again; what is final stays. */
    async stop() {
        this._waiting?.stopping.abort();
        if (this.run?.active) {
            await this._doing('Stopping', (patience) => this.run.stop(patience));
        }
    }

    /** Take the last run back. */
    undo() {
        return this._doing('', async () => {
            const run = this.runs.pop();
            // without the server the labelmap is the user's still
            await Promise.race([run.stop().catch(() => {}), pause(UNDO_MS)]);
            run.undo();
            this.notice = {text: `${run.model.title} was undone.`, isError: false};
        });
    }

    /** Store the labelmap on screen in the archive. */
    save(description) {
        return this._doing('Storing', async (patience) => {
            const screen = this._viewer.onScreen();
            const {StudyInstanceUID: study} = screen.displaySet;
            this.runs.forEach((each) => each.noteEdits());
            const image = await this.nameOf(screen.displaySet, patience);
            const body = segmentationOf(this.labelmap, image, description);
            const stored = await this._client.save({...body, format: this._viewer.storeFormat});
            this.notice = {text: `Stored in the archive as "${description}".`, isError: false};
            await this._viewer.discover(study, stored.series);
        });
    }

    /** Stop what runs: the page goes away. */
    leave() {
        this.pointer.finish();
        this._waiting?.stopping.abort();
        this.runs.forEach((run) => run.abandon());
        this.runs = [];
    }

    /** Tell the user something, null to take it away. */
    tell(text, isError = false) {
        this.notice = text === null ? null : {text, isError};
        this.changed();
    }

    /** Let the panel show what is new. */
    changed() {
        this._listeners.forEach((listener) => listener());
    }

    /** Resolve to the labelmap on a series that the user works on, made for a model where there is none. */
    async target(screen, model) {
        const labelmap = this._viewer.labelmap(screen);
        if (labelmap) {
            return {labelmap, isNew: false};
        }
        const {name, color} = model.labels[0];
        const made = await this._viewer.newLabelmap(screen, model.title, {label: name, color});
        return {labelmap: made, isNew: true};
    }

    /** Resolve to what the server calls a series. */
    async nameOf({StudyInstanceUID, SeriesInstanceUID}, patience) {
        this._archive ||= chosen(await this._client.archives(patience), this._viewer.archive);
        return `dicomweb:${this._archive}/${StudyInstanceUID}/${SeriesInstanceUID}`;
    }

    /** Return how a request is tried again: the panel tells of it, and Stop aborts `stopping`. */
    patience(stopping) {
        return {
            signal: stopping.signal,
            onWait: (text) => {
                this._waiting = text ? {text, stopping} : null;
                this.changed();
            }
        };
    }

    /** Do something during which nothing else may begin; `text` says what. */
    async _doing(text, action) {
        const meanwhile = {text, isError: false};
        const stopping = new AbortController();
        this.busy = true;
        this.notice = meanwhile;
        this.changed();
        try {
            await action(this.patience(stopping));
        } catch (error) {
            this.notice = stopping.signal.aborted
                ? {text: 'Stopped', isError: false}
                : {text: error.message, isError: true};
        }
        if (this.notice === meanwhile) {
            this.notice = null;
        }
        this.busy = false;
        this.changed();
    }

    _lookFor(run) {
        const screen = this._viewer.onScreen();
        if (screen && run.labelmap.covers(screen.displaySet.imageIds)) {
            run.look(this._viewer.look(screen));
        }
    }
}

/** Return the only archive, or the one that is called as OHIF calls it. */
function chosen(archives, called) {
    const name = archives.length === 1 ? archives[0] : archives.find((each) => each === called);
    if (!name) {
        throw new Error(archives.length
            ? `The isoline server knows several archives: ${archives.join(', ')}. ` +
              'Set isoline.source in OHIF\'s app-config.js to the one that OHIF shows.'
            : 'The isoline server knows no archive. Add [dicomweb.NAME] to its isoline.toml.');
    }
    return name;
}
