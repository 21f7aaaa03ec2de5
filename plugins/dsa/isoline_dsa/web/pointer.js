/* The mouse as a tool that draws prompts: clicks, boxes, scribbles, lassos. */
import {geo} from './page.js';

const ACTION = 'isoline_prompt';
const NEAR = 3; // pixels of the screen between the points of a stroke

/**
 * While a tool is in use, a click is a point, and a drag a box, a scribble or a lasso; with the
 * point, dragging moves the slide as ever. Positions are [x, y] in image pixels.
 */
export class Pointer {
    /**
     * `drawn(kind, points, flipped)` is called with each prompt, `drawing(kind, points)` while the
     * mouse moves; `flipped` says whether Alt was held.
     */
    constructor(map, drawn, drawing) {
        this._map = map;
        this._drawn = drawn;
        this._drawing = drawing;
        this._stroke = null;
        this.tool = null;
        const {event} = geo();
        this._handlers = [
            [event.mouseclick, (click) => this._click(click)],
            [event.actiondown, (action) => this._begin(action)],
            [event.actionmove, (action) => this._move(action)],
            [event.actionup, (action) => this._end(action)]
        ];
        this._handlers.forEach(([name, handler]) => map.geoOn(name, handler));
    }

    /** Take `tool`: a kind of prompt, or null for the slide's own mouse. */
    use(tool) {
        const interactor = this._map.interactor();
        interactor.removeAction(ACTION);
        if (tool && tool !== 'point') {
            interactor.addAction({action: ACTION, input: 'left', name: ACTION, owner: ACTION});
        }
        this._stroke = null;
        this._map.node()[0].classList.toggle('isoline-pointing', Boolean(tool));
        this.tool = tool;
    }

    dispose() {
        this.use(null);
        this._handlers.forEach(([name, handler]) => this._map.geoOff(name, handler));
    }

    _click(click) {
        this._stroke = null;
        if (!click.buttonsDown.left) {
            return;
        }
        if (this.tool === 'point' || this.tool === 'scribble') {
            this._drawn(this.tool, [place(click)], click.modifiers.alt);
        }
    }

    _begin({state, mouse}) {
        if (state.action === ACTION) {
            this._stroke = [place(mouse)];
            this._at = mouse.page;
        }
    }

    _move({mouse}) {
        if (!this._stroke) {
            return;
        }
        if (this.tool === 'box') {
            this._stroke[1] = place(mouse);
        } else if (Math.hypot(mouse.page.x - this._at.x, mouse.page.y - this._at.y) >= NEAR) {
            this._stroke.push(place(mouse));
            this._at = mouse.page;
        }
        this._drawing(this.tool, this._stroke);
    }

    _end({mouse}) {
        const points = this._stroke;
        this._stroke = null;
        const fewest = {box: 2, scribble: 1, polygon: 3}[this.tool];
        if (points && points.length >= fewest) {
            this._drawn(this.tool, points, mouse.modifiers.alt);
        } else if (points) {
            this._drawing(this.tool, []);
        }
    }
}

function place(mouse) {
    return [mouse.geo.x, mouse.geo.y].map((value) => Math.round(value * 100) / 100);
}
