/*
 * The list of segments of the labelmap on screen: the active one, and their colours, names and locks.
 */

import {make} from './form.js';
import {hexOf, rgbOf} from './labels.js';

export class SegmentList {
    constructor() {
        this.element = make('ul');
        this._rows = new Map(); // by segment
        this._labelmap = null;
    }

    /** Show the segments of a labelmap, null for none. A field that has the focus is not changed. */
    show(labelmap) {
        if (labelmap !== this._labelmap) {
            this._labelmap = labelmap;
            this._rows.clear();
        }
        const segments = labelmap?.list() ?? [];
        const rows = new Map(segments.map((segment) => [
            segment.index, this._rows.get(segment.index) ?? row(labelmap, segment.index)]));
        segments.forEach((segment) => rows.get(segment.index).update(segment));
        if (segments.length !== this.element.children.length ||
            segments.some(({index}, n) => this.element.children[n] !== rows.get(index).element)) {
            this.element.replaceChildren(...[...rows.values()].map((each) => each.element));
        }
        this._rows = rows;
    }
}

function row(labelmap, index) {
    const active = make('input', {type: 'radio', name: 'segment', title: 'Draw in this segment'});
    const color = make('input', {type: 'color', title: 'Colour'});
    const name = make('input', {type: 'text', title: 'Name', maxlength: 64});
    const locked = make('input', {type: 'checkbox', title: 'Protect it from brushes and models'});
    active.addEventListener('change', () => labelmap.activate(index));
    color.addEventListener('input', () => labelmap.paint(index, rgbOf(color.value)));
    name.addEventListener('change', () => name.value.trim() && labelmap.rename(index, name.value.trim()));
    locked.addEventListener('change', () => labelmap.lock(index, locked.checked));
    return {
        element: make('li', {}, [active, color, name, make('label', {}, [locked, 'Lock'])]),
        update(segment) {
            active.checked = segment.active;
            locked.checked = segment.locked;
            active.ariaLabel = `Draw in ${segment.label}`;
            color.ariaLabel = `Colour of ${segment.label}`;
            name.ariaLabel = `Name of segment ${index}`;
            [[color, hexOf(segment.color)], [name, segment.label]].forEach(([input, value]) => {
                if (input.getRootNode().activeElement !== input && input.value !== value) {
                    input.value = value;
                }
            });
        }
    };
}
