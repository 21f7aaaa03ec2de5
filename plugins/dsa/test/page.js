/*
 * A page of HistomicsUI without a browser: as much of it as pointing at objects uses.
 */

const ZOOM = 10; // pixels of the screen for one of the image

class Element {
    constructor(tagName) {
        this.tagName = tagName.toUpperCase();
        this.children = [];
        this.dataset = {};
        this.value = '';
        this.classList = {toggle() {}};
        this._listeners = {};
    }

    append(...children) { this.children.push(...children); }
    setAttribute() {}
    remove() {}
    addEventListener(name, listener) { (this._listeners[name] ??= []).push(listener); }
    fire(name, event = {}) { (this._listeners[name] ?? []).forEach((listener) => listener({target: this, ...event})); }

    /** Return the button in it that `test` is true of. */
    button(test) {
        const inside = this.children.filter((child) => child instanceof Element);
        return inside.find((child) => child.tagName === 'BUTTON' && test(child)) ??
            inside.map((child) => child.button(test)).find(Boolean);
    }
}

/** Make `window` and `document`; to be called before a module of the plugin is loaded. */
export function open() {
    globalThis.window = {
        girder: {
            rest: {getApiRoot: () => 'http://recorded/api/v1'},
            auth: {getCurrentToken: () => 'token'},
            plugins: {histomicsui: {}}
        },
        geo: {event: {mouseclick: 'mouseclick', actiondown: 'actiondown'}}
    };
    globalThis.document = Object.assign(new Element('document'), {createElement: (tag) => new Element(tag)});
    globalThis.requestAnimationFrame = (action) => setTimeout(action);
    globalThis.cancelAnimationFrame = clearTimeout;
}

/** A map of geojs that shows nothing, and the mouse on it. */
export class SlideMap {
    constructor() {
        this._slide = new Element('div');
    }

    createLayer() { return {createFeature: () => new Feature(), draw() {}}; }
    interactor() { return {addAction() {}, removeAction() {}}; }
    node() { return Object.assign([this._slide], {offset: () => ({left: 0, top: 0})}); }
    geoOn(name, listener) { this._slide.addEventListener(name, listener); }
    displayToGcs({x, y}) { return {x: x / ZOOM, y: y / ZOOM}; }

    /** Click on a point of the image. */
    click(point, alt) {
        this._slide.fire('mouseclick', {page: onPage(point), buttonsDown: {left: true}, modifiers: {alt}});
    }

    /** Drag the mouse along points of the image. */
    drag(points, altKey) {
        this._slide.fire('actiondown', {state: {action: 'isoline_prompt'}, mouse: {page: onPage(points[0])}});
        points.slice(1).forEach((point) => document.fire('mousemove', moved(point)));
        document.fire('mouseup', {...moved(points.at(-1)), altKey});
    }
}

/** A feature of geojs, whose setters return it. */
class Feature {
    data() { return this; }
    style() { return this; }
    draw() { return this; }
}

function onPage([x, y]) {
    return {x: x * ZOOM, y: y * ZOOM};
}

function moved(point) {
    const {x, y} = onPage(point);
    return {pageX: x, pageY: y};
}
