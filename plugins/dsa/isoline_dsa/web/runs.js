/* One run: progress, Stop, Accept, Discard. */
import {Api} from './api.js';
import {button, make, pause} from './dom.js';
import {LiveLayer} from './layers.js';
import {Latest} from './retry.js';

const VERDICTS = {
    done: 'Finished',
    cancelled: 'Stopped',
    failed: 'Failed',
    stopped: 'Interrupted'
};

/** A row of the panel that follows one run to its end. */
export class RunRow {
    constructor(panel, run, region) {
        this._panel = panel;
        this.run = run;
        this._following = new AbortController();
        this._streaming = new AbortController();
        this._looks = new Latest();
        this._waiting = ''; // the message while the stream is lost
        this._layer = null;
        this._region = region;
        this.element = make('li', {class: 'isoline-run'}, [
            this._title = make('strong', {}, [run.title]),
            this._bar = make('progress', {max: 1, 'aria-label': `Progress of ${run.title}`}),
            this._text = make('span', {class: 'isoline-text'}, ['Starting']),
            this._stop = button('Stop', () => this._cancel(), 'btn-default'),
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
        const {signal} = this._streaming;
        const onWait = (text) => {
            this._waiting = text;
            this._show();
        };
        try {
            for await (const event of Api.events(this.run._id, {signal, onWait})) {
                this._take(event);
            }
            await this._stored();
        } catch (error) {
            if (this._following.signal.aborted) {
                return;
            }
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
            const route = `isoline/run/${this.run._id}/focus`;
            // the focus only affects the order, so a failure is ignored
            this._looks.send((signal) => Api.call('PUT', route, point, {signal})).catch(() => {});
        }
    }

    dispose() {
        this._following.abort();
        this._streaming.abort();
        this._looks.stop();
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

    /** Wait until Girder has stored the results. */
    async _stored() {
        const {signal} = this._following;
        this._storing = true;
        this._show();
        for (;;) {
            this.run = await Api.call('GET', `isoline/run/${this.run._id}`, undefined, {signal});
            if (!this.running || signal.aborted) {
                this._storing = false;
                return;
            }
            await pause(300);
        }
    }

    async _cancel() {
        if (this._stopping) {
            return;
        }
        this._stopping = true; // the button is not disabled, or it would lose the focus
        this._show();
        try {
            await Api.call('POST', `isoline/run/${this.run._id}/cancel`, undefined, this._panel.patience());
            if (this._waiting) {
                this._streaming.abort(); // Girder ends the run without the isoline server
            }
        } catch (error) {
            this._stopping = false;
            this._show();
            this._panel.complain(error);
        }
    }

    async _decide(verb) {
        const held = this.element.contains(document.activeElement);
        this._accept.disabled = this._discard.disabled = true;
        try {
            this.run = await Api.once('POST', `isoline/run/${this.run._id}/${verb}`);
            this._panel.drop(this);
            if (held) {
                this._panel.focus();
            }
            const {title, annotations} = this.run;
            if (verb === 'accept') {
                await this._panel.showAnnotations(annotations);
                this._panel.announce(`${title}: accepted. Edit it under Annotations.`);
            } else {
                await this._panel.dropAnnotations(annotations);
                this._panel.announce(`${title}: discarded.`);
            }
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
        const held = document.activeElement === this._stop;
        this.element.dataset.state = state;
        this._stop.textContent = this._stopping ? 'Stopping' : 'Stop';
        this._stop.hidden = !this.running;
        this._bar.hidden = !this.running;
        this._accept.hidden = this._discard.hidden = this.running || !this._panel.mayWrite;
        if (!this.running) {
            if (held) {
                this._accept.focus(); // the focus moves to the button that replaces Stop
            }
            const found = `${elements} contour${elements === 1 ? '' : 's'}`;
            this._text.textContent = [`${VERDICTS[state]}, ${found}`, message].filter(Boolean)
                .join('. ');
            return;
        }
        if (this._waiting) {
            this._text.textContent = `${this._waiting[0].toUpperCase()}${this._waiting.slice(1)}`;
        } else if (this._storing) {
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
