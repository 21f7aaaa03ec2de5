/* The mouse as a tool that draws prompts: clicks, boxes, scribbles, lassos. */
import {geo, isThere} from './page.js';

const ACTION = 'isoline_prompt';
const NEAR = 3; // screen pixels between the points of a stroke

/**
 * While a tool is in use, a click draws a point, and a drag draws a box, a scribble or a lasso; with
 * the point tool, dragging moves the slide as usual. Positions are [x, y] in image pixels.
 */
export class Pointer {
    /**
     * `drawn(kind, points, flipped)` is called with each prompt, `drawing(kind, points)` while the
     * mouse moves; `flipped` is whether Alt was held.
     */
    constructor(map, drawn, drawing) {
        this._map = map;
        this._drawn = drawn;
        this._drawing = drawing;
        this._stroke = null;
        this.tool = null;
        const {event} = geo();
        this._onSlide = [
            [event.mouseclick, (click) => this._click(click)],
            [event.actiondown, (action) => this._begin(action)]
        ];
        // geojs reports only about 30 moves per second, and not where the button was released
        this._onPage = [
            ['mousemove', (move) => this._move(move)],
            ['mouseup', (up) => this._end(up)]
        ];
        this._onSlide.forEach(([name, handler]) => map.geoOn(name, handler));
        this._onPage.forEach(([name, handler]) => document.addEventListener(name, handler));
    }

    /** Use `tool`: a kind of prompt, or null for navigation. */
    use(tool) {
        const interactor = this._map.interactor();
        interactor.removeAction(ACTION);
        if (tool && tool !== 'point') {
            interactor.addAction({action: ACTION, input: 'left', name: ACTION, owner: ACTION});
        }
        this._giveUp();
        this._map.node()[0].classList.toggle('isoline-pointing', Boolean(tool));
        this.tool = tool;
    }

    dispose() {
        this._onPage.forEach(([name, handler]) => document.removeEventListener(name, handler));
        if (isThere(this._map)) {
            this.use(null);
            this._onSlide.forEach(([name, handler]) => this._map.geoOff(name, handler));
        }
    }

    _click({page, buttonsDown, modifiers}) {
        this._giveUp(); // too short to be a stroke
        if (buttonsDown.left && (this.tool === 'point' || this.tool === 'scribble')) {
            this._drawn(this.tool, [this._place(page)], modifiers.alt);
        }
    }

    _begin({state, mouse}) {
        if (state.action === ACTION) {
            this._stroke = [this._place(mouse.page)];
            this._at = mouse.page;
        }
    }

    _move({pageX, pageY}) {
        if (this._stroke) {
            this._extend({x: pageX, y: pageY});
            this._drawing(this.tool, this._stroke);
        }
    }

    _end({pageX, pageY, altKey}) {
        if (!this._stroke) {
            return;
        }
        this._extend({x: pageX, y: pageY});
        const points = this._stroke;
        this._giveUp();
        if (points.length >= {box: 2, scribble: 1, polygon: 3}[this.tool]) {
            this._drawn(this.tool, points, altKey);
        }
    }

    _giveUp() {
        if (this._stroke) {
            this._stroke = null;
            this._drawing(this.tool, []);
        }
    }

    /** Extend the stroke to a position on the page. */
    _extend(page) {
        if (this.tool === 'box') {
            this._stroke[1] = this._place(page);
        } else if (Math.hypot(page.x - this._at.x, page.y - this._at.y) >= NEAR) {
            this._stroke.push(this._place(page));
            this._at = page;
        }
    }

    /** Return the position on the slide, [x, y] in image pixels, of a position on the page. */
    _place(page) {
        const {left, top} = this._map.node().offset();
        const {x, y} = this._map.displayToGcs({x: page.x - left, y: page.y - top});
        return [x, y].map((value) => Math.round(value * 100) / 100);
    }
}
