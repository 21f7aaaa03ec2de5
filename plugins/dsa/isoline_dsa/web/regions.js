/* Choosing the region to segment: what is on screen, a drawn region, or the whole slide. */
import {button, make} from './dom.js';
import {isThere} from './page.js';
import {rectangle, ringOf} from './shapes.js';

const HOW_TO_DRAW = {
    rectangle: 'Drag a rectangle over the region. Escape cancels.',
    polygon: 'Click the corners of the region; a double click closes it. Escape cancels.'
};

/** The tools of a model that segments regions. */
export class Regions {
    constructor(panel) {
        this._panel = panel;
        this._drawing = null;
        this._buttons = [
            button('Segment what I see', () => panel.segment(this._visible()), 'btn-primary'),
            button('Rectangle', () => this._draw('rectangle'), 'btn-default',
                'Draw a rectangle and segment it'),
            button('Polygon', () => this._draw('polygon'), 'btn-default',
                'Draw a polygon and segment it; a double click closes it'),
            button('Whole slide', () => panel.segment(null), 'btn-default')
        ];
        this.element = make('div', {class: 'isoline-tools'}, this._buttons);
    }

    /** Whether nothing would be lost. */
    get empty() {
        return true;
    }

    /** Disable everything, or enable it. */
    set off(off) {
        this._buttons.forEach((one) => { one.disabled = off; });
    }

    dispose() {
        this._stopDrawing();
        this.element.remove();
    }

    /** Return the part of the slide on screen, as a ring of [x, y] in image pixels. */
    _visible() {
        const {left, right, top, bottom} = this._panel.map.bounds();
        return rectangle(left, Math.min(top, bottom), right, Math.max(top, bottom));
    }

    /** Let the user draw a region, then segment it. */
    async _draw(shape) {
        this._stopDrawing();
        this._drawing = new AbortController();
        document.addEventListener('keydown',
            ({key}) => { if (key === 'Escape') { this._stopDrawing(); } },
            {signal: this._drawing.signal});
        this._panel.announce(HOW_TO_DRAW[shape]);
        const drawn = this._panel.viewer.startDrawMode(
            shape, {trigger: false, signalModeChange: true});
        const [element] = await Promise.resolve(drawn).catch(() => []); // given up
        if (element) {
            this._stopDrawing();
            await this._panel.segment(ringOf(element));
        }
    }

    _stopDrawing() {
        if (!this._drawing) {
            return;
        }
        this._drawing.abort();
        this._drawing = null;
        this._panel.announce('');
        if (isThere(this._panel.map)) {
            const {annotationLayer} = this._panel.viewer;
            annotationLayer.mode(null);
            annotationLayer.removeAllAnnotations();
        }
    }
}
