/*
 * The Isoline panel in HistomicsUI, and Isoline's page in Girder's settings.
 *
 * Plain JavaScript, served as it is. From the page it uses Girder's client (`girder`), geojs
 * (`geo`) and what HistomicsUI's image view offers; it leaves nothing behind on `window`.
 *
 *   Api         requests to /api/v1/isoline
 *   LiveLayer   contours on the slide, from the first tile until HistomicsUI shows the annotation
 *   RunRow      one run: progress, Stop, Accept, Discard
 *   Panel       models, parameters, what to segment
 */
(function () {
'use strict';

const girder = window.girder;
if (!girder || !girder.rest) {
    return;
}

// --- Requests ----------------------------------------------------------------------------------

const Api = {
    /** Resolve to what a route answers; reject with an Error whose message is for the user. */
    async call(method, route, body) {
        const answer = await this._fetch(method, route, body);
        return answer.status === 204 ? null : answer.json();
    },

    /** Yield the events of a run, each once; a lost stream is taken up again. */
    async* events(runId, signal) {
        let after = -1;
        let failures = 0;
        while (!signal.aborted && failures < 20) {
            try {
                const answer = await this._fetch(
                    'GET', `run/${runId}/events?after=${after}`, undefined, signal);
                for await (const line of linesOf(answer.body)) {
                    failures = 0;
                    if (!line) { // a heartbeat
                        continue;
                    }
                    const event = JSON.parse(line);
                    if (event.seq > after) {
                        after = event.seq;
                        yield event;
                    }
                    if (['done', 'failed', 'cancelled'].includes(event.event)) {
                        return;
                    }
                }
            } catch (error) {
                if (signal.aborted) {
                    return;
                }
                if (error.status === 404) {
                    throw error;
                }
            }
            failures += 1;
            await pause(Math.min(5000, 100 * 2 ** failures));
        }
    },

    async _fetch(method, route, body, signal) {
        const headers = {'Girder-Token': girder.auth.getCurrentToken() || ''};
        if (body !== undefined) {
            headers['Content-Type'] = 'application/json';
        }
        let answer;
        try {
            answer = await fetch(`${girder.rest.getApiRoot()}/isoline/${route}`, {
                method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body)
            });
        } catch (error) {
            throw signal && signal.aborted ? error : new Error('Girder does not answer.');
        }
        if (!answer.ok) {
            const said = await answer.json().catch(() => ({}));
            const error = new Error(said.message || `Girder answered ${answer.status}.`);
            error.status = answer.status;
            throw error;
        }
        return answer;
    }
};

/** Yield the whole lines of a stream of bytes. */
async function* linesOf(stream) {
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let pending = '';
    for (;;) {
        const {value, done} = await reader.read();
        if (done) {
            return;
        }
        const lines = (pending + value).split('\n');
        pending = lines.pop();
        yield* lines;
    }
}

function pause(milliseconds) {
    return new Promise((resolve) => { setTimeout(resolve, milliseconds); });
}

// --- Contours on the slide ---------------------------------------------------------------------

/** Polygons of one run on a layer of their own, drawn as they come. */
class LiveLayer {
    constructor(map) {
        this._map = map;
        this._layer = map.createLayer('feature', {features: ['polygon', 'line']});
        this._chunks = []; // {feature, items, stale}: only the last one grows
        this._frame = null;
    }

    /** Outline `region`, a list of [x, y]. */
    outline(region) {
        const line = this._layer.createFeature('line');
        line.data([region.map(([x, y]) => ({x, y}))])
            .style({strokeColor: 'black', strokeOpacity: 0.6, strokeWidth: 1.5, closed: true})
            .draw();
    }

    /** Take in elements; those whose ids are in `replaced` go. */
    add(elements, replaced) {
        if (replaced.length) {
            this._remove(new Set(replaced));
        }
        for (const element of elements) {
            let chunk = this._chunks[this._chunks.length - 1];
            // a batch redraws one chunk, however many contours there are by now
            if (!chunk || chunk.items.length >= 400) {
                chunk = {feature: this._polygons(), items: [], stale: false};
                this._chunks.push(chunk);
            }
            chunk.items.push({
                id: element.id,
                object: (element.user && element.user.object) || element.id,
                color: element.lineColor,
                ring: {outer: xy(element.points), inner: (element.holes || []).map(xy)}
            });
            chunk.stale = true;
        }
        this._draw();
    }

    get count() {
        return this._chunks.reduce((sum, chunk) => sum + chunk.items.length, 0);
    }

    remove() {
        cancelAnimationFrame(this._frame);
        if (this._layer) {
            this._map.deleteLayer(this._layer);
            this._layer = null;
        }
    }

    _remove(ids) {
        for (const chunk of this._chunks) {
            const kept = chunk.items.filter((item) => !ids.has(item.id) && !ids.has(item.object));
            if (kept.length < chunk.items.length) {
                chunk.items = kept;
                chunk.stale = true;
            }
        }
    }

    _polygons() {
        return this._layer.createFeature('polygon', {
            polygon: (item) => item.ring,
            style: {
                uniformPolygon: true,
                fill: true,
                fillColor: (point, k, item) => item.color,
                fillOpacity: 0.2,
                stroke: true,
                strokeColor: (point, k, item) => item.color,
                strokeWidth: 2
            }
        });
    }

    _draw() {
        if (this._frame !== null) {
            return; // batches may come faster than frames
        }
        this._frame = requestAnimationFrame(() => {
            this._frame = null;
            for (const chunk of this._chunks.filter((each) => each.stale)) {
                // a copy: geojs builds the outlines anew only for another array
                chunk.feature.data(chunk.items.slice()).draw();
                chunk.stale = false;
            }
        });
    }
}

function xy(points) {
    return points.map(([x, y]) => ({x, y}));
}

// --- One run -----------------------------------------------------------------------------------

const VERDICTS = {
    done: 'Finished',
    cancelled: 'Stopped',
    failed: 'Failed',
    stopped: 'Interrupted'
};

/** A row of the panel that follows one run to its end. */
class RunRow {
    constructor(panel, run, region) {
        this._panel = panel;
        this.run = run;
        this._following = new AbortController();
        this._layer = null;
        this._region = region;
        this.element = make('li', {class: 'isoline-run'}, [
            this._title = make('strong', {}, [run.title]),
            this._bar = make('progress', {max: 1, 'aria-label': `Progress of ${run.title}`}),
            this._text = make('span', {class: 'isoline-text'}, ['Starting']),
            this._stop = button('Stop', () => this._act('cancel'), 'btn-default'),
            this._accept = button('Accept', () => this._decide('accept'), 'btn-success'),
            this._discard = button('Discard', () => this._decide('discard'), 'btn-default')
        ]);
        this._show();
    }

    get running() {
        return this.run.state === 'running';
    }

    async follow() {
        if (!this.running) {
            return;
        }
        const {map} = this._panel;
        this._layer = new LiveLayer(map);
        if (this._region) {
            this._layer.outline(this._region);
        }
        try {
            for await (const event of Api.events(this.run._id, this._following.signal)) {
                this._take(event);
            }
            await this._stored();
        } catch (error) {
            this._panel.complain(error);
            this.run.state = 'stopped';
            this.run.message = error.message;
        }
        if (this._following.signal.aborted) {
            return;
        }
        this._show();
        this.element.scrollIntoView({block: 'nearest'});
        await this._panel.showAnnotations(this.run.annotations);
        this._dropLayer();
        this._panel.announce(`${this.run.title}: ${VERDICTS[this.run.state].toLowerCase()}.`);
    }

    focus(point) {
        if (this.running) {
            // where to look first is a wish: when it fails nothing is lost
            Api.call('PUT', `run/${this.run._id}/focus`, point).catch(() => {});
        }
    }

    dispose() {
        this._following.abort();
        this._dropLayer();
        this.element.remove();
    }

    _take(event) {
        if (event.event === 'started') {
            this.run.tiles = event.tiles;
        } else if (event.event === 'contours') {
            this._layer.add(event.features, event.replaces);
            this.element.dataset.shown = this._layer.count;
        } else if (event.event === 'progress') {
            this.run.tiles = event.tiles;
            this.run.tilesDone = event.tiles_done;
            this._left = event.seconds_left;
        } else if (event.event === 'warned') {
            this._panel.complain(new Error(event.message));
        }
        this._show();
    }

    /** Wait until Girder has stored what has been shown. */
    async _stored() {
        this._storing = true;
        this._show();
        for (;;) {
            this.run = await Api.call('GET', `run/${this.run._id}`);
            if (!this.running || this._following.signal.aborted) {
                this._storing = false;
                return;
            }
            await pause(300);
        }
    }

    async _act(verb) {
        this._stop.disabled = true;
        try {
            await Api.call('POST', `run/${this.run._id}/${verb}`);
        } catch (error) {
            this._stop.disabled = false;
            this._panel.complain(error);
        }
    }

    async _decide(verb) {
        this._accept.disabled = this._discard.disabled = true;
        try {
            this.run = await Api.call('POST', `run/${this.run._id}/${verb}`);
            this._panel.drop(this);
            await this._panel.showAnnotations(verb === 'accept' ? this.run.annotations : []);
            this._panel.announce(verb === 'accept'
                ? `${this.run.title}: accepted. Edit it under Annotations.`
                : `${this.run.title}: discarded.`);
        } catch (error) {
            this._accept.disabled = this._discard.disabled = false;
            this._panel.complain(error);
        }
    }

    _dropLayer() {
        if (this._layer) {
            this._layer.remove();
            this._layer = null;
        }
    }

    _show() {
        const {tiles, tilesDone, state, elements, message} = this.run;
        this.element.dataset.state = state;
        this._stop.hidden = !this.running;
        this._bar.hidden = !this.running;
        this._accept.hidden = this._discard.hidden = this.running || !this._panel.mayWrite;
        if (!this.running) {
            const found = `${elements} contour${elements === 1 ? '' : 's'}`;
            this._text.textContent = [`${VERDICTS[state]}, ${found}`, message].filter(Boolean)
                .join('. ');
            return;
        }
        if (this._storing) {
            this._text.textContent = 'Storing';
            this._bar.removeAttribute('value');
        } else if (tiles && tilesDone) {
            this._bar.value = tilesDone / tiles;
            this._text.textContent = `${tilesDone} of ${tiles} tiles` +
                (this._left && tilesDone < tiles ? `, ${duration(this._left)} left` : '');
        }
    }
}

function duration(seconds) {
    if (seconds < 90) {
        return `${Math.max(1, Math.round(seconds))} s`;
    }
    return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

// --- The panel ---------------------------------------------------------------------------------

/** What can be segmented; a tool is offered where the model declares what it needs. */
const TOOLS = [
    {label: 'Segment what I see', run: (panel) => panel.segment(panel.visible()), main: true},
    {label: 'Rectangle', title: 'Draw a rectangle and segment it', run: (panel) => panel.draw('rectangle')},
    {label: 'Polygon', title: 'Draw a polygon and segment it; a double click closes it', run: (panel) => panel.draw('polygon')},
    {label: 'Whole slide', run: (panel) => panel.segment(null)}
];

/** The panel of one open slide. */
class Panel {
    constructor(view) {
        this._view = view;
        this.map = view.viewerWidget.viewer;
        this._itemId = view.model.id;
        this._rows = [];
        this._models = [];
        this.mayWrite = false;
        this._build();
        this._onPan = () => this._panned();
        this.map.geoOn(window.geo.event.pan, this._onPan);
        this._onClick = (event) => this._keepOffGrowing(event);
        this._host = document.getElementById('h-annotation-selector-container');
        this._host.addEventListener('click', this._onClick, true);
        this._host.insertBefore(this.element, document.getElementById('h-annotation-panel'));
        this._load();
    }

    dispose() {
        clearTimeout(this._panning);
        this._rows.forEach((row) => row.dispose());
        this._host.removeEventListener('click', this._onClick, true);
        this.element.remove();
        this._disposed = true;
    }

    get viewer() {
        return this._view.viewerWidget;
    }

    /** The rectangle of the slide that is on screen, as a ring of [x, y]. */
    visible() {
        const {left, right, top, bottom} = this.map.bounds();
        return rectangle(left, Math.min(top, bottom), right, Math.max(top, bottom));
    }

    /** Let the user draw a region, then segment it. */
    async draw(shape) {
        this.announce(shape === 'polygon'
            ? 'Click the corners of the region; a double click closes it. Escape gives up.'
            : 'Drag a rectangle over the region. Escape gives up.');
        const escape = new Promise((resolve) => {
            this._giveUp = (event) => { if (event.key === 'Escape') { resolve([]); } };
            document.addEventListener('keydown', this._giveUp);
        });
        const drawn = this.viewer.startDrawMode(shape, {trigger: false, signalModeChange: true});
        const [element] = await Promise.race([Promise.resolve(drawn).catch(() => []), escape]);
        document.removeEventListener('keydown', this._giveUp);
        this.viewer.annotationLayer.mode(null);
        this.viewer.annotationLayer.removeAllAnnotations();
        this.announce('');
        if (element) {
            await this.segment(ringOf(element));
        }
    }

    /** Segment inside `ring`, a list of [x, y], or the whole slide where it is null. */
    async segment(ring) {
        this.complain(null);
        this._busy(true);
        try {
            const run = await Api.call('POST', `item/${this._itemId}/run`, {
                model: this._model.name,
                title: this._model.title,
                parameters: this._parameters(),
                region: ring && {type: 'Polygon', coordinates: [[...ring, ring[0]]]},
                focus: this._centre()
            });
            this._add(new RunRow(this, run, ring));
        } catch (error) {
            this.complain(error);
        } finally {
            this._busy(false);
        }
    }

    /** Have HistomicsUI read its list of annotations again and display those of `ids`. */
    async showAnnotations(ids) {
        const {collection} = this._view.annotationSelector;
        const refreshed = once(collection, 'h:refreshed');
        girder.utilities.eventStream.trigger(
            'g:event.large_image_annotation.create', {data: {itemId: this._itemId}});
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
        await pause(100); // it is drawn in the frame after it is fetched
    }

    drop(row) {
        row.dispose();
        this._rows = this._rows.filter((each) => each !== row);
    }

    announce(text) {
        this._status.textContent = text;
    }

    complain(error) {
        this._alert.textContent = error ? error.message : '';
        this._alert.hidden = !error;
    }

    _build() {
        this._select = make('select', {id: 'isoline-model', class: 'form-control input-sm'});
        this._select.addEventListener('change', () => this._chosen());
        this._about = make('p', {class: 'isoline-about'});
        this._form = make('div', {class: 'isoline-parameters'});
        this._details = make('details', {}, [make('summary', {}, ['Parameters']), this._form]);
        this._tools = make('div', {class: 'isoline-tools'});
        this._alert = make('p', {class: 'isoline-alert', role: 'alert', hidden: ''});
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
            make('label', {for: 'isoline-model'}, ['Model']), this._select, this._about,
            this._details, this._tools, this._alert, this._status, this._list
        ]);
        toggle.setAttribute('aria-expanded', 'true');
        toggle.addEventListener('click', (event) => {
            event.preventDefault();
            content.hidden = !content.hidden;
            chevron.className = content.hidden ? 'icon-down-open' : 'icon-up-open';
            toggle.setAttribute('aria-expanded', String(!content.hidden));
        });
        // HistomicsUI would take arrow keys and letters for its own
        content.addEventListener('keydown', (event) => event.stopPropagation());
        this.element = make('div', {id: 'isoline-panel', class: 's-panel'}, [toggle, content]);
    }

    async _load() {
        try {
            const {runs, mayWrite} = await Api.call('GET', `item/${this._itemId}`);
            if (this._disposed) {
                return;
            }
            this.mayWrite = mayWrite;
            runs.reverse().forEach((run) => this._add(new RunRow(this, run)));
            this._models = await Api.call('GET', 'models');
            this._select.replaceChildren(...this._models.map((model) => make(
                'option', {value: model.name}, [model.title || model.name])));
            this._select.value = (this._models.find((model) => !model.problem) || {}).name;
            this._chosen();
        } catch (error) {
            this._busy(true);
            this._tools.replaceChildren(button('Try again', () => this._load(), 'btn-default'));
            this.complain(error);
            return;
        }
        this.complain(null);
    }

    get _model() {
        return this._models.find((model) => model.name === this._select.value);
    }

    _chosen() {
        const model = this._model;
        if (!model) {
            this.complain(new Error('The isoline server has no models.'));
            return;
        }
        this._about.textContent = model.problem || model.description || '';
        this._details.hidden = !(model.parameters || []).length;
        this._form.replaceChildren(...(model.parameters || []).map(field));
        const declared = model.prompts || [];
        this._tools.replaceChildren(
            ...TOOLS.filter((tool) => !tool.needs || declared.includes(tool.needs)).map((tool) => {
                const one = button(tool.label, () => tool.run(this), tool.main ? 'btn-primary' : 'btn-default');
                one.title = tool.title || '';
                return one;
            }));
        this._busy(false);
        if (!this.mayWrite) {
            this.announce('You may look at this slide; to segment it you need the right to write.');
        }
    }

    _busy(busy) {
        const off = busy || !this.mayWrite || !this._model || Boolean(this._model.problem);
        this._tools.querySelectorAll('button').forEach((each) => { each.disabled = off; });
    }

    _parameters() {
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

    /** Stop clicks on an annotation that grows: what HistomicsUI has of it is only a part. */
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

/** Return the form field of one parameter of a model. */
function field(parameter) {
    const id = `isoline-parameter-${parameter.name}`;
    let input;
    if (parameter.kind === 'choice') {
        input = make('select', {id, name: parameter.name, class: 'form-control input-sm'},
            parameter.choices.map((choice) => make('option', {value: choice}, [choice])));
        input.value = parameter.default;
    } else if (parameter.kind === 'switch') {
        input = make('input', {id, name: parameter.name, type: 'checkbox'});
        input.checked = parameter.default;
    } else {
        input = make('input', {
            id,
            name: parameter.name,
            type: 'number',
            class: 'form-control input-sm',
            min: parameter.minimum,
            max: parameter.maximum,
            step: 'any',
            value: parameter.default
        });
    }
    const unit = parameter.unit ? ` (${parameter.unit})` : '';
    const label = make('label', {for: id, title: parameter.help || ''}, [
        (parameter.title || parameter.name) + unit]);
    return make('div', {class: 'isoline-field'}, [label, input]);
}

/** Return the corners of what was drawn, an element of large_image_annotation. */
function ringOf(element) {
    if (element.points) {
        return element.points.map(([x, y]) => [x, y]);
    }
    const [x, y] = element.center;
    const cos = Math.cos(element.rotation || 0);
    const sin = Math.sin(element.rotation || 0);
    return [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([i, j]) => {
        const dx = i * element.width / 2;
        const dy = j * element.height / 2;
        return [x + dx * cos - dy * sin, y + dx * sin + dy * cos];
    });
}

function rectangle(x0, y0, x1, y1) {
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
}

function make(tag, attributes, children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
        if (value !== undefined && value !== null) {
            element.setAttribute(key, value);
        }
    }
    element.append(...(children || []));
    return element;
}

function button(label, action, style) {
    const element = make('button', {type: 'button', class: `btn btn-sm ${style}`}, [label]);
    element.addEventListener('click', action);
    return element;
}

function once(emitter, event) {
    return new Promise((resolve) => { emitter.once(event, resolve); });
}

// --- Where the panel is shown ------------------------------------------------------------------

/** Show a panel beside each slide that HistomicsUI opens. */
function watch(histomics) {
    let view = null;
    let panel = null;
    // the view is no one's property: it shows itself when it renders
    const {prototype} = histomics.views.body.ImageView;
    const render = prototype.render;
    prototype.render = function (...args) {
        view = this;
        return render.apply(this, args);
    };
    histomics.events.on('h:imageOpened', (model) => {
        if (panel) {
            panel.dispose();
            panel = null;
        }
        if (model && girder.auth.getCurrentUser()) {
            setTimeout(() => { // HistomicsUI has more to do in the same event
                if (!panel && view && view.viewerWidget && view.viewerWidget.viewer) {
                    panel = new Panel(view);
                }
            });
        }
    });
}

// --- Settings ----------------------------------------------------------------------------------

const SETTINGS = [
    {key: 'isoline.url', label: 'Address of the isoline server', type: 'url'},
    {key: 'isoline.token', label: 'Its token', type: 'password'},
    {key: 'isoline.name', label: 'What the isoline server calls this Girder: NAME of [girder.NAME]', type: 'text'}
];

/** Offer the settings among those of the other plugins. */
function offerSettings() {
    const {PluginUtils} = girder.utilities;
    const route = 'plugins/isoline/config';
    const SettingsView = girder.views.View.extend({
        initialize() {
            this.el.replaceChildren(settingsForm());
        }
    });
    PluginUtils.exposePluginConfig('isoline', route);
    girder.router.route(route, 'isolineConfig', () => {
        girder.events.trigger('g:navigateTo', SettingsView);
    });
}

function settingsForm() {
    const said = make('p', {role: 'status'});
    const form = make('form', {class: 'isoline-settings'}, [
        make('h3', {}, ['Isoline']),
        ...SETTINGS.map(({key, label, type}) => make('div', {class: 'form-group'}, [
            make('label', {for: key}, [label]),
            make('input', {id: key, name: key, type, class: 'form-control', autocomplete: 'off'})
        ])),
        make('button', {type: 'submit', class: 'btn btn-primary'}, ['Save and test']),
        said
    ]);
    settings('GET', {list: JSON.stringify(SETTINGS.map(({key}) => key))}).then((values) => {
        SETTINGS.forEach(({key}) => { form.elements[key].value = values[key] || ''; });
    }).catch((error) => { said.textContent = error.message; });
    form.addEventListener('submit', async (event) => {
        event.preventDefault();
        said.textContent = 'Saving';
        try {
            const list = SETTINGS.map(({key}) => ({key, value: form.elements[key].value}));
            await settings('PUT', {list: JSON.stringify(list)});
            const {status, version, workers} = await Api.call('GET', 'server');
            said.textContent = `Saved. isoline ${version} is ${status}, with ${workers} workers.`;
        } catch (error) {
            said.textContent = error.message;
        }
    });
    return form;
}

function settings(method, data) {
    return new Promise((resolve, reject) => {
        girder.rest.restRequest({method, url: 'system/setting', data, error: null})
            .done(resolve)
            .fail((answer) => reject(new Error((answer.responseJSON || {}).message || 'It failed.')));
    });
}

if (girder.plugins && girder.plugins.histomicsui) {
    watch(girder.plugins.histomicsui);
}
if (girder.utilities.PluginUtils) {
    offerSettings();
}
})();
