/*
 * One user's session in one tab: the models, the runs, and saving. The panel shows it; it continues
 * while the panel is hidden.
 */

import {requestOf} from './client.js';
import {Pointer} from './pointer.js';
import {pause, Run} from './run.js';
import {segmentationOf} from './segmentation.js';

const LOOK_MS = 500;
const UNDO_MS = 5000; // for the server to cancel a run that is undone

export class Session {
    /**
     * @param {import('./client.js').Client} client
     * @param {import('./viewer.js').Viewer} viewer
     * @param {string} archive the server's name for the archive; '' to ask the server
     */
    constructor(client, viewer, archive = '') {
        this._client = client;
        this._viewer = viewer;
        this._archive = archive;
        this._listeners = new Set();
        /** Segmentation with prompts. */
        this.pointer = new Pointer(client, viewer, this);
        /** @type {object[] | null} models that segment whole volumes; null until they are loaded */
        this.models = null;
        /** @type {Run[]} runs that can be undone, oldest first */
        this.runs = [];
        /** A message for the user: {text, isError}; null for none. */
        this.notice = null;
        /** Whether an action is in progress, during which no other may begin. */
        this.busy = false;
        this._waiting = null; // {text, stopping} while a request is being retried
    }

    /** Call `listener` when there is something new to show; return a function that unsubscribes. */
    subscribe(listener) {
        this._listeners.add(listener);
        const stop = this._viewer.subscribe(listener);
        return () => {
            this._listeners.delete(listener);
            stop();
        };
    }

    /** The current or last run; null for none. */
    get run() {
        return this.runs.at(-1) ?? null;
    }

    /** The active labelmap on screen, null if there is none. */
    get labelmap() {
        const screen = this._viewer.onScreen();
        return screen && this._viewer.labelmap(screen);
    }

    /** The message while a request is being retried, '' otherwise. */
    get waiting() {
        return this._waiting?.text ?? '';
    }

    /** Whether there is a series on screen to segment. */
    get hasSeries() {
        return Boolean(this._viewer.onScreen());
    }

    /** Load the models from the server. */
    load() {
        return this._doing('Asking the server for its models', async (patience) => {
            this.models = null;
            const models = await this._client.models(patience);
            const ofVolumes = models.filter((each) => each.dimensions?.includes(3));
            // a model may run both automatically and with prompts
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

    /** Stop the run, or a request that is being retried; final results are kept. */
    async stop() {
        this._waiting?.stopping.abort();
        if (this.run?.active) {
            await this._doing('Stopping', (patience) => this.run.stop(patience));
        }
    }

    /** Undo the last run. */
    undo() {
        return this._doing('', async () => {
            const run = this.runs.pop();
            // the labelmap can be restored even if the server does not respond
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
            const {stored, note} = await this._stored(body);
            this.notice = {text: `Stored in the archive as "${description}"${note}.`, isError: false};
            await this._viewer.discover(study, stored.series);
        });
    }

    /** Store `body` as a segmentation or, where the headers of the series do not allow one, as structures. */
    async _stored(body) {
        try {
            return {stored: await this._client.save({...body, format: this._viewer.storeFormat}), note: ''};
        } catch (error) {
            if (error.code !== 'NotSupported') {
                throw error;
            }
            const stored = await this._client.save({...body, format: 'rtstruct'});
            return {stored, note: `, as an RT Structure Set, since ${error.message}`};
        }
    }

    /** Stop all runs and requests because the page is closing. */
    leave() {
        this.pointer.finish();
        this._waiting?.stopping.abort();
        this.runs.forEach((run) => run.abandon());
        this.runs = [];
    }

    /** Show a message to the user; null removes it. */
    tell(text, isError = false) {
        this.notice = text === null ? null : {text, isError};
        this.changed();
    }

    /** Notify the panel of a change. */
    changed() {
        this._listeners.forEach((listener) => listener());
    }

    /** Resolve to the active labelmap of a series; if there is none, create one for a model. */
    async target(screen, model) {
        const labelmap = this._viewer.labelmap(screen);
        if (labelmap) {
            return {labelmap, isNew: false};
        }
        const {name, color} = model.labels[0];
        const made = await this._viewer.newLabelmap(screen, model.title, {label: name, color});
        return {labelmap: made, isNew: true};
    }

    /** Resolve to the server's name for a series. */
    async nameOf({StudyInstanceUID, SeriesInstanceUID}, patience) {
        this._archive ||= chosen(await this._client.archives(patience), this._viewer.archive);
        return `dicomweb:${this._archive}/${StudyInstanceUID}/${SeriesInstanceUID}`;
    }

    /** Return how a request is retried: the panel shows it, and Stop aborts `stopping`. */
    patience(stopping) {
        return {
            signal: stopping.signal,
            onWait: (text) => {
                this._waiting = text ? {text, stopping} : null;
                this.changed();
            }
        };
    }

    /** Perform an action during which no other may begin; `text` is shown meanwhile. */
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

/** Return the only archive, or the one with the name that OHIF uses. Throws Error. */
function chosen(archives, called) {
    const name = archives.length === 1 ? archives[0] : archives.find((each) => each === called);
    if (!name) {
        throw new Error(archives.length
            ? `The isoline server has several archives: ${archives.join(', ')}. ` +
              'Set isoline.source in OHIF\'s app-config.js to the one that OHIF shows.'
            : 'The isoline server has no archive. Add [dicomweb.NAME] to its isoline.toml.');
    }
    return name;
}
