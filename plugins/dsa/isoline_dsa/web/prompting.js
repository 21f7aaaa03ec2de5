/* Segmentation with prompts: after each click the whole object is drawn on the slide. */
import {Api} from './api.js';
import {button, make} from './dom.js';
import {LiveLayer, PromptLayer} from './layers.js';
import {classesOf, store, styleOf} from './objects.js';
import {Pointer} from './pointer.js';

const TOOLS_OF = {
    point: {label: 'Click to segment', title: 'Click on an object; each further click corrects it'},
    box: {label: 'Box', title: 'Drag a box around an object'},
    scribble: {label: 'Scribble', title: 'Draw a line along an object'},
    polygon: {label: 'Lasso', title: 'Draw around an object'}
};
const HELP = 'Hold Alt to swap + and \u2212. Ctrl+Z undoes, Enter goes to the next object, Escape stops.';

/** The tools of a promptable model, and the objects that were segmented with it. */
export class Prompting {
    constructor(panel, model) {
        this._panel = panel;
        this._model = model;
        this._prompts = []; // of the current object, in the order in which they were drawn
        this._answers = []; // elements after each prompt, if known
        this._kept = []; // elements of earlier objects, not yet accepted
        this._asking = null;
        this._objects = new LiveLayer(panel.map);
        this._marks = new PromptLayer(panel.map);
        this._pointer = new Pointer(panel.map,
            (...prompt) => this._add(...prompt), (...sketch) => this._marks.sketch(...sketch));
        this._onKey = (event) => this._key(event);
        document.addEventListener('keydown', this._onKey, true);
        this._build();
        this._show();
    }

    /** The key of the model in the list of models. */
    get model() {
        return this._model.key;
    }

    /** Whether nothing would be lost. */
    get empty() {
        return !this._prompts.length && !this._kept.length;
    }

    /** Disable everything, or enable what is currently possible. */
    set off(off) {
        this._off = off;
        this._use(off ? null : this._pointer.tool);
    }

    dispose() {
        document.removeEventListener('keydown', this._onKey, true);
        this._stopAsking();
        this._pointer.dispose();
        this._marks.remove();
        this._objects.remove();
        this.element.remove();
    }

    _build() {
        const declared = Object.keys(TOOLS_OF).filter((kind) => this._model.prompts.includes(kind));
        this._tools = declared.map((kind, k) => {
            const {label, title} = TOOLS_OF[kind];
            const one = button(label, () => this._use(this._pointer.tool === kind ? null : kind),
                k ? 'btn-default' : 'btn-primary', title);
            one.dataset.tool = kind;
            return one;
        });
        this._signs = ['+', '\u2212'].map((sign, k) => {
            const one = button(sign, () => this._sign(k === 0), 'btn-default');
            one.title = k ? 'Following prompts are off the object' : 'Following prompts are on the object';
            one.setAttribute('aria-label', one.title);
            return one;
        });
        this._class = make('input', {
            id: 'isoline-class', class: 'form-control input-sm', list: 'isoline-classes',
            placeholder: (this._model.labels[0] || {}).name, autocomplete: 'off'
        });
        this._undo = button('Undo', () => this._takeBack(), 'btn-default');
        this._next = button('Next object', () => this._keep(), 'btn-default',
            'Keep this object and begin another');
        this._accept = button('Accept', () => this._save(), 'btn-success');
        this._discard = button('Discard', () => this._clear(), 'btn-default');
        this.element = make('div', {class: 'isoline-prompting'}, [
            make('div', {class: 'isoline-tools'}, [
                ...this._tools,
                make('div', {class: 'isoline-signs', role: 'group', 'aria-label': 'Include or exclude'},
                    this._signs)
            ]),
            make('div', {class: 'isoline-field isoline-wide'}, [
                make('label', {for: 'isoline-class'}, ['Class']), this._class,
                make('datalist', {id: 'isoline-classes'},
                    classesOf(this._model).map((value) => make('option', {value}))),
                this._next
            ]),
            make('div', {class: 'isoline-tools'}, [this._undo, this._accept, this._discard])
        ]);
        // a clicked button does not take the focus, or Enter would press it again
        this.element.addEventListener('mousedown', (event) => {
            if (event.target.closest('button')) {
                event.preventDefault();
            }
        });
        this._sign(true);
    }

    _use(tool) {
        this._pointer.use(tool);
        if (tool) {
            this._panel.viewer.annotationLayer.mode(null);
            this._panel.announce(HELP);
            this._panel.reveal();
        }
        this._show();
    }

    _sign(include) {
        this._include = include;
        this._signs.forEach((one, k) => {
            one.classList.toggle('active', include === (k === 0));
            one.setAttribute('aria-pressed', String(include === (k === 0)));
        });
    }

    _key(event) {
        const {tagName} = event.target;
        const taken = /^(INPUT|SELECT|TEXTAREA)$/.test(tagName) ||
            (event.key === 'Enter' && /^(BUTTON|A)$/.test(tagName));
        if (!this._pointer.tool || (taken && event.key !== 'Escape')) {
            return;
        }
        const act = {
            Escape: () => this._use(null),
            Enter: () => this._next.disabled || this._keep(),
            '+': () => this._sign(true),
            '-': () => this._sign(false),
            z: event.ctrlKey || event.metaKey ? () => this._undo.disabled || this._takeBack() : null
        }[event.key];
        if (act) {
            event.preventDefault();
            event.stopPropagation(); // HistomicsUI has other uses for these keys
            act();
        }
    }

    // The current object

    _add(kind, points, flipped) {
        this._prompts.push({kind, points, include: this._include !== Boolean(flipped)});
        this._ask();
    }

    _takeBack() {
        this._prompts.pop();
        this._answers.length = Math.min(this._answers.length, this._prompts.length);
        this._stopAsking();
        if (this._prompts.length && !this._answers[this._prompts.length - 1]) {
            this._ask();
        } else {
            this._show();
        }
    }

    /** Request the object with all its prompts; a request that is still open is cancelled. */
    async _ask() {
        this._stopAsking();
        const asking = this._asking = new AbortController();
        const last = this._prompts.length - 1;
        this._panel.complain(null);
        this._show();
        try {
            const {elements, warning} = await this._question(this._panel.patience(asking));
            this._answers[last] = elements;
            this._panel.announce(warning || '');
        } catch (error) {
            if (!asking.signal.aborted) {
                this._panel.complain(error);
            }
        }
        if (this._asking === asking) {
            this._asking = null;
            this._show();
        }
    }

    async _question(patience) {
        const request = {
            model: this._model.name,
            parameters: this._panel.parameters(),
            prompts: this._prompts
        };
        let elements = [];
        let warning = '';
        for (const event of await Api.prompt(this._panel.itemId, request, patience)) {
            if (event.event === 'contours' && !event.provisional) {
                elements = elements.concat(event.features);
            } else if (event.event === 'warned') {
                warning = event.message;
            } else if (event.event === 'failed') {
                throw new Error(`Isoline: ${event.message}`);
            }
        }
        return {elements, warning};
    }

    _stopAsking() {
        if (this._asking) {
            this._asking.abort();
            this._asking = null;
        }
    }

    /** The elements of the current object: the last known answer. */
    get _current() {
        return this._answers.filter(Boolean).pop() || [];
    }

    // All objects

    /** Keep the current object with its class, and begin another. */
    _keep() {
        const style = styleOf(this._class.value.trim());
        const elements = this._current.map((element) => ({...element, ...style}));
        const ids = new Set(elements.map(({id}) => id)); // the same object may be found again
        this._kept = [...this._kept.filter(({id}) => !ids.has(id)), ...elements];
        this._begin();
    }

    _clear() {
        this._kept = [];
        this._begin();
    }

    _begin() {
        this._stopAsking();
        this._prompts = [];
        this._answers = [];
        this._sign(true);
        this._show();
    }

    async _save() {
        this._keep();
        this._saving = true;
        this._show();
        try {
            const annotation = await store(this._kept, this._model, this._panel.itemId);
            await this._panel.showAnnotations([annotation]);
            this._kept = [];
            this._panel.announce('Accepted. Edit it under Annotations.');
        } catch (error) {
            this._panel.complain(error);
        }
        this._saving = false;
        this._show();
    }

    _show() {
        const elements = [...this._kept, ...this._current];
        this._objects.show(elements);
        this._marks.show(this._prompts);
        const busy = Boolean(this._asking) || this._saving;
        this.element.dataset.state = this._asking ? 'asking' : 'ready';
        this.element.dataset.shown = elements.length;
        this._tools.forEach((one) => {
            const used = one.dataset.tool === this._pointer.tool;
            one.disabled = this._off;
            one.classList.toggle('active', used);
            one.setAttribute('aria-pressed', String(used));
        });
        this._signs.forEach((one) => { one.disabled = this._off; });
        this._undo.disabled = this._saving || !this._prompts.length;
        this._next.disabled = busy || !this._current.length;
        this._accept.disabled = busy || !elements.length;
        this._discard.disabled = this._saving || this.empty;
    }
}
