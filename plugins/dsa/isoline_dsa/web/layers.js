/* Contours on the slide, from the first tile until HistomicsUI shows the annotation. */
import {isThere} from './page.js';

/** A layer with the polygons of one run, which are drawn as they arrive. */
export class LiveLayer {
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

    /** Add elements; remove those whose ids are in `replaced`. */
    add(elements, replaced) {
        if (replaced.length) {
            this._remove(new Set(replaced));
        }
        for (const element of elements) {
            let chunk = this._chunks[this._chunks.length - 1];
            // a batch redraws one chunk, whatever the number of contours
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

    /** Draw only `elements`. */
    show(elements) {
        this._chunks.forEach((chunk) => { chunk.items = []; chunk.stale = true; });
        this.add(elements, []);
    }

    get count() {
        return this._chunks.reduce((sum, chunk) => sum + chunk.items.length, 0);
    }

    remove() {
        cancelAnimationFrame(this._frame);
        if (isThere(this._map)) {
            this._map.deleteLayer(this._layer);
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
            return; // batches may arrive faster than frames
        }
        this._frame = requestAnimationFrame(() => {
            this._frame = null;
            for (const chunk of this._chunks.filter((each) => each.stale)) {
                // a copy, since geojs rebuilds the outlines only for another array
                chunk.feature.data(chunk.items.slice()).draw();
                chunk.stale = false;
            }
        });
    }
}

const INCLUDED = '#1b7f3b';
const EXCLUDED = '#c62828';

/** A layer with the prompts that the user drew: green on the object, red off it. */
export class PromptLayer {
    constructor(map) {
        this._map = map;
        this._layer = map.createLayer('feature', {features: ['point', 'line']});
        this._points = this._layer.createFeature('point', {
            style: {
                radius: 5, fill: true, fillOpacity: 1, fillColor: ({color}) => color,
                stroke: true, strokeColor: 'white', strokeWidth: 1.5
            }
        });
        this._lines = this._line();
        this._sketch = this._line();
    }

    show(prompts) {
        const marks = prompts.map(({kind, points, include}) => ({
            kind, places: outline(kind, points), color: include ? INCLUDED : EXCLUDED
        }));
        this._points.data(marks.filter(({places}) => places.length === 1)
            .map(({places: [{x, y}], color}) => ({x, y, color})));
        this._lines.data(marks.filter(({places}) => places.length > 1));
        this._sketch.data([]);
        this._layer.draw();
    }

    /** Show a prompt that is being drawn. */
    sketch(kind, points) {
        const places = outline(kind, points);
        this._sketch.data(places.length > 1 ? [{kind, places, color: 'black'}] : []);
        this._layer.draw();
    }

    remove() {
        if (isThere(this._map)) {
            this._map.deleteLayer(this._layer);
        }
    }

    _line() {
        return this._layer.createFeature('line', {
            line: ({places}) => places,
            style: {
                strokeColor: (place, k, {color}) => color,
                strokeWidth: (place, k, {kind}) => (kind === 'scribble' ? 4 : 2),
                strokeOpacity: 0.9
            }
        });
    }
}

/** Return the outline of a prompt as points {x, y}; that of a box or a lasso is closed. */
function outline(kind, points) {
    if (kind === 'box' && points.length === 2) {
        const [[x0, y0], [x1, y1]] = points;
        return xy([[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]);
    }
    return xy(kind === 'polygon' && points.length ? [...points, points[0]] : points);
}

function xy(points) {
    return points.map(([x, y]) => ({x, y}));
}
