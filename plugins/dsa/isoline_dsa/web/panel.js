/* The panel of one open slide: models, parameters, tools and runs. */
import {Api} from './api.js';
import {button, make, once, pause} from './dom.js';
import {field} from './fields.js';
import {geo, girder, isThere} from './page.js';
import {Prompting} from './prompting.js';
import {Regions} from './regions.js';
import {RunRow} from './runs.js';

/** The panel of one open slide. */
export class Panel {
    constructor(view) {
        this._view = view;
        this.map = view.viewerWidget.viewer;
        this.itemId = view.model.id;
        this._rows = [];
        this._models = [];
        this.mayWrite = false;
        this._build();
        this._onPan = () => this._panned();
        this.map.geoOn(geo().event.pan, this._onPan);
        this._onClick = (event) => this._keepOffGrowing(event);
        this._host = document.getElementById('h-annotation-selector-container');
        this._host.addEventListener('click', this._onClick, true);
        this._host.insertBefore(this.element, document.getElementById('h-annotation-panel'));
        this._load();
    }

    dispose() {
        clearTimeout(this._panning);
        if (isThere(this.map)) {
            this.map.geoOff(geo().event.pan, this._onPan);
        }
        this._rows.forEach((row) => row.dispose());
        this._tools.dispose();
        this._host.removeEventListener('click', this._onClick, true);
        this.element.remove();
        this._disposed = true;
        this._giveUp();
    }

    get viewer() {
        return this._view.viewerWidget;
    }

    /** Segment the inside of `ring`, a list of [x, y] in image pixels, or the whole slide if it is null. */
    async segment(ring) {
        const asked = document.activeElement;
        this.complain(null);
        this._busy(true);
        try {
            const run = await Api.start(this.itemId, {
                model: this._model.name,
                title: this._model.title,
                parameters: this.parameters(),
                region: ring && {type: 'Polygon', coordinates: [[...ring, ring[0]]]},
                focus: this._centre()
            }, this.patience());
            this._add(new RunRow(this, run, ring));
        } catch (error) {
            this.complain(error);
        } finally {
            this._busy(false);
            if (document.activeElement === document.body) {
                asked.focus(); // a button loses the focus when it is disabled
            }
        }
    }

    /** Scroll HistomicsUI's sidebar to the panel. */
    reveal() {
        this.element.scrollIntoView({block: 'nearest'});
    }

    /** Take the keyboard focus. */
    focus() {
        this._tools.element.querySelector('button').focus();
    }

    /** Have HistomicsUI reload its list of annotations and display those with these ids. */
    async showAnnotations(ids) {
        const {collection} = this._view.annotationSelector;
        const refreshed = once(collection, 'h:refreshed');
        girder.utilities.eventStream.trigger(
            'g:event.large_image_annotation.create', {data: {itemId: this.itemId}});
        await Promise.race([refreshed, pause(10000)]);
        await Promise.all((ids || []).map((id) => {
            const annotation = collection.get(id);
            if (!annotation) {
                return null;
            }
            const fetched = once(annotation, 'g:fetched');
            if (!annotation.get('displayed')) {
                annotation.set('displayed', true);
            }
            return Promise.race([fetched, pause(3000)]);
        }));
        await pause(100); // it is drawn in the frame after it has been fetched
    }

    /** Remove deleted annotations from the slide: HistomicsUI would keep the last one. */
    async dropAnnotations(ids) {
        await this.showAnnotations([]);
        const {annotationSelector} = this._view;
        const {collection} = annotationSelector;
        for (const gone of ids.map((id) => collection.get(id)).filter(Boolean)) {
            gone.set('displayed', false);
            collection.remove(gone);
            annotationSelector.trigger('h:deleteAnnotation', gone);
        }
    }

    drop(row) {
        row.dispose();
        this._rows = this._rows.filter((each) => each !== row);
    }

    announce(text) {
        this._status.textContent = text;
    }

    /** Show an error, null for none; an abort by the user is not shown. */
    complain(error) {
        this._warn(error && error.name !== 'AbortError' ? error.message : '');
    }

    /** Return how a request is retried: the panel shows it, and its Stop button aborts `stopping`. */
    patience(stopping = new AbortController()) {
        return {
            signal: stopping.signal,
            onWait: (text) => {
                this._giveUp = () => stopping.abort();
                this._stop.hidden = !text;
                this._warn(text && `${text[0].toUpperCase()}${text.slice(1)}.`);
            }
        };
    }

    _warn(text) {
        if (this._alert.textContent !== text) { // each change is read aloud
            this._alert.textContent = text;
        }
        this._alert.hidden = !text;
    }

    _build() {
        this._select = make('select', {id: 'isoline-model', class: 'form-control input-sm'});
        this._select.addEventListener('change', () => { this._chosen(); this.reveal(); });
        this._about = make('p', {class: 'isoline-about'});
        this._form = make('div', {class: 'isoline-parameters'});
        this._details = make('details', {}, [make('summary', {}, ['Parameters']), this._form]);
        this._tools = new Regions(this);
        this._tools.off = true;
        this._place = make('div', {}, [this._tools.element]);
        this._alert = make('p', {class: 'isoline-alert', role: 'alert', hidden: ''});
        this._giveUp = () => {};
        this._stop = button('Stop', () => this._giveUp(), 'btn-default', 'Do not try again');
        this._stop.hidden = true;
        this._status = make('p', {class: 'isoline-status', role: 'status'});
        this._list = make('ul', {class: 'isoline-runs'});
        const chevron = make('span', {class: 'icon-up-open'});
        const toggle = make('a', {
            href: '#', class: 's-panel-title-container', 'aria-controls': 'isoline-content'
        }, [
            make('div', {class: 's-panel-title'}, [make('span', {class: 'icon-magic'}), ' Isoline']),
            make('div', {class: 's-panel-controls'}, [chevron])
        ]);
        const content = make('div', {id: 'isoline-content', class: 's-panel-content'}, [
            make('div', {class: 'isoline-field isoline-wide'}, [
                make('label', {for: 'isoline-model'}, ['Model']), this._select
            ]),
            this._about, this._details, this._place, this._alert, this._stop, this._status, this._list
        ]);
        toggle.setAttribute('aria-expanded', 'true');
        toggle.addEventListener('click', (event) => {
            event.preventDefault();
            content.hidden = !content.hidden;
            chevron.className = content.hidden ? 'icon-down-open' : 'icon-up-open';
            toggle.setAttribute('aria-expanded', String(!content.hidden));
        });
        // HistomicsUI has shortcuts on letters and arrow keys
        content.addEventListener('keydown', (event) => event.stopPropagation());
        this.element = make('div', {id: 'isoline-panel', class: 's-panel'}, [toggle, content]);
    }

    async _load() {
        try {
            const {runs, mayWrite} = await Api.call('GET', `isoline/item/${this.itemId}`, undefined, this.patience());
            if (this._disposed) {
                return;
            }
            this.mayWrite = mayWrite;
            this._rows.forEach((row) => this.drop(row)); // of an earlier attempt
            runs.reverse().forEach((run) => this._add(new RunRow(this, run)));
            this._models = (await Api.call('GET', 'isoline/models', undefined, this.patience()))
                .filter(({dimensions}) => !dimensions || dimensions.includes(2)).flatMap(ways);
            this._select.replaceChildren(...this._models.map((model) => make(
                'option', {value: model.key}, [model.title || model.name])));
            const working = this._models.filter((model) => !model.problem);
            const whole = working.find((model) => !(model.prompts || []).length);
            this._select.value = (whole || working[0] || {}).key;
            this._chosen();
        } catch (error) {
            this._busy(true);
            this._place.replaceChildren(button('Try again', () => this._load(), 'btn-default'));
            this.complain(error);
            return;
        }
        this.complain(null);
    }

    get _model() {
        return this._models.find((model) => model.key === this._select.value);
    }

    _chosen() {
        if (!this._tools.empty) {
            this._select.value = this._tools.model;
            this.announce('Accept or discard the objects on the slide first.');
            return;
        }
        const model = this._model;
        if (!model) {
            this.complain(new Error('The isoline server has no models.'));
            return;
        }
        this._about.textContent = this._about.title = model.problem || model.description || '';
        this._details.hidden = !(model.parameters || []).length;
        this._form.replaceChildren(...(model.parameters || []).map(field));
        this._offer(model);
        this._busy(false);
        if (!this.mayWrite) {
            this.announce('You may view this slide, but to segment it you need write access.');
        }
    }

    /** Offer the tools of `model`: for prompts, or for regions. */
    _offer(model) {
        this._tools.dispose();
        this._tools = (model.prompts || []).length ? new Prompting(this, model) : new Regions(this);
        this._place.replaceChildren(this._tools.element);
    }

    _busy(busy) {
        this._tools.off = busy || !this.mayWrite || !this._model || Boolean(this._model.problem);
    }

    /** Return the values in the form, by parameter. */
    parameters() {
        const values = {};
        for (const input of this._form.querySelectorAll('[name]')) {
            if (input.type === 'checkbox') {
                values[input.name] = input.checked;
            } else if (input.type === 'number') {
                values[input.name] = Number(input.value);
            } else {
                values[input.name] = input.value;
            }
        }
        return values;
    }

    _add(row) {
        this._rows.push(row);
        this._list.prepend(row.element);
        row.element.scrollIntoView({block: 'nearest'});
        row.follow();
    }

    _centre() {
        const {left, right, top, bottom} = this.map.bounds();
        return [(left + right) / 2, (top + bottom) / 2];
    }

    _panned() {
        clearTimeout(this._panning);
        this._panning = setTimeout(() => {
            const centre = this._centre();
            this._rows.forEach((row) => row.focus(centre));
        }, 200);
    }

    /** Stop clicks on a growing annotation, of which HistomicsUI has only a part. */
    _keepOffGrowing(event) {
        const entry = event.target.closest('.h-annotation');
        const growing = this._rows.filter((row) => row.running).length &&
            entry && / \(growing\)$/.test(entry.textContent.trim());
        if (growing) {
            event.stopPropagation();
            event.preventDefault();
            this.announce('Isoline is still adding to this annotation. It can be edited once the run has ended.');
        }
    }
}

/** Return `model` once for each way in which it can be used: with regions and with prompts. */
function ways(model) {
    const both = model.automatic && model.prompts.length;
    const first = {...model, key: model.name, prompts: both ? [] : model.prompts || []};
    if (!both) {
        return [first];
    }
    const title = `${model.title || model.name}, by clicks`;
    return [first, {...model, key: `${model.name}:prompts`, title}];
}
