/*
 * The panel: the model and its parameters, the run, the segments, and saving.
 */

import {button, field, make, timeLeft, valuesOf} from './form.js';
import {PointingPanel} from './pointing_panel.js';
import {SegmentList} from './segment_list.js';
import {sheet} from './style.js';

const VERDICTS = {
    waiting: 'Waiting', running: 'Running', done: 'Finished', stopped: 'Stopped', failed: 'Failed'
};

/**
 * Return the class of the custom element that shows `session`.
 *
 * @param {import('./session.js').Session} session
 * @param {(name: string) => void} activate activates a tool of the viewer
 */
export function panelFor(session, activate) {
    return class extends HTMLElement {
        connectedCallback() {
            this._panel ??= new Panel(session, activate, this.attachShadow({mode: 'open'}));
            this._panel.open();
        }

        disconnectedCallback() {
            this._panel.close();
        }
    };
}

class Panel {
    constructor(session, activate, root) {
        this._session = session;
        this._pointing = new PointingPanel(session.pointer, activate);
        this._shown = null; // the models in the menu
        this._build();
        root.adoptedStyleSheets = [sheet];
        root.append(this._body);
    }

    open() {
        this._close = this._session.subscribe(() => this._later());
        if (!this._session.models && !this._session.busy) {
            this._session.load();
        }
        this._show();
    }

    close() {
        this._close();
    }

    _build() {
        const session = this._session;
        this._model = make('select', {id: 'model'});
        this._model.addEventListener('change', () => this._chosen());
        this._about = make('p');
        this._form = make('form', {'aria-label': 'Parameters'});
        this._form.addEventListener('submit', (event) => {
            event.preventDefault();
            this._start();
        });
        this._parameters = make('details', {}, [make('summary', {}, ['Parameters']), this._form]);
        this._run = button('Run', () => this._start(), {class: 'main'});
        this._stop = button('Stop', () => this._do(session.stop()));
        this._undo = button('Undo', () => this._do(session.undo()), {
            title: 'Undo the last run; what you drew in other segments is kept'
        });
        this._again = button('Try again', () => this._do(session.load()));
        this._progress = make('progress', {max: 100, 'aria-label': 'Progress'});
        this._said = make('p', {class: 'said', role: 'status'});
        this._segments = new SegmentList();
        this._description = make('input', {
            type: 'text', id: 'description', maxlength: 64, required: true, value: 'Segmentation'
        });
        this._save = button('Save', () => this._store(), {
            title: 'Store the segmentation on screen, including your corrections, as DICOM SEG in the archive'
        });
        this._results = make('section', {'aria-label': 'Segments'}, [
            make('h2', {}, ['Segments']), this._segments.element,
            make('div', {class: 'field'}, [
                make('label', {for: 'description'}, ['Save to the archive as']),
                make('div', {class: 'row'}, [this._description, this._save])
            ])
        ]);
        this._body = make('div', {}, [
            make('section', {'aria-label': 'Run a model'}, [
                make('label', {for: 'model'}, ['Model']), this._model, this._about, this._parameters,
                make('div', {class: 'row'}, [this._run, this._stop, this._undo, this._again]),
                this._progress, this._said
            ]),
            this._pointing.element,
            this._results
        ]);
        // OHIF has shortcuts on letters and arrow keys
        this._body.addEventListener('keydown', (event) => event.stopPropagation());
    }

    get _chosenModel() {
        return this._session.models?.find((model) => model.name === this._model.value);
    }

    _start() {
        const model = this._chosenModel;
        if (this._run.disabled || !this._form.reportValidity()) {
            this._parameters.open = true;
            return;
        }
        this._do(this._session.start(model, valuesOf(this._form)));
    }

    _store() {
        if (this._description.reportValidity()) {
            this._do(this._session.save(this._description.value.trim()));
        }
    }

    /** Show at once that something has begun; the session notifies the panel of its progress. */
    _do(begun) {
        this._show();
        return begun;
    }

    _chosen() {
        const model = this._chosenModel;
        this._about.textContent = model?.problem ?? model?.description ?? '';
        this._form.replaceChildren(...(model?.parameters ?? []).map(field));
        this._parameters.hidden = !model?.parameters.length;
        this._show();
    }

    /** Show changes soon, once for any number of events. */
    _later() {
        this._pending ??= setTimeout(() => {
            this._pending = null;
            this._show();
        });
    }

    _show() {
        const {models, run, busy, notice, waiting, labelmap} = this._session;
        if (models !== this._shown) {
            this._shown = models;
            this._model.replaceChildren(...(models ?? []).map((each) => (
                make('option', {value: each.name}, [each.title]))));
            this._model.value = models?.find((each) => !each.problem)?.name ?? models?.[0]?.name ?? '';
            this._chosen();
            return;
        }
        const model = this._chosenModel;
        const active = Boolean(run?.active);
        this._run.hidden = active;
        this._run.disabled = busy || !model || Boolean(model.problem) || !this._session.hasSeries;
        this._stop.hidden = !active && !waiting;
        this._undo.hidden = !run?.labelmap.exists;
        this._undo.disabled = busy;
        this._again.hidden = busy || models !== null;
        this._progress.hidden = !active;
        this._progress.value = run?.percent ?? 0;
        this._tell(notice ?? said(run, models), waiting);
        this._pointing.show();
        this._segments.show(labelmap);
        this._results.hidden = !labelmap;
        this._save.disabled = busy || active;
    }

    _tell({text: told, isError}, waiting) {
        const text = [told, waiting].filter(Boolean).join(' · ');
        if (this._said.textContent !== text) { // each change is read aloud
            this._said.textContent = text;
        }
        this._said.classList.toggle('error', isError || Boolean(waiting));
    }
}

/** Return the message about the last run. */
function said(run, models) {
    if (!run) {
        return {text: models?.length === 0 ? 'The server has no model for volumes.' : '', isError: false};
    }
    const parts = [VERDICTS[run.state]];
    if (run.waiting) {
        parts.push(run.waiting);
    } else if (run.state === 'waiting' && run.position > 0) {
        parts.push(`${run.position} before you`);
    } else if (run.state === 'running') {
        parts.push(`${Math.round(run.percent)} %`, timeLeft(run.secondsLeft));
    } else if (run.state === 'stopped') {
        parts.push(run.slices ? `${run.slices} slices are final` : 'no slice was final yet');
    }
    parts.push(...run.messages);
    return {text: parts.filter(Boolean).join(' · '), isError: Boolean(run.waiting) || run.state === 'failed'};
}
