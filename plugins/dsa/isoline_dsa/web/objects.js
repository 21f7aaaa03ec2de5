/* Objects segmented with prompts: their classes and styles, and storing them. */
import {Api} from './api.js';
import {girder} from './page.js';

const MOST = 10000; // elements of one annotation, above which HistomicsUI becomes slow

/** Return the names of the classes of `model` and of the archive. */
export function classesOf(model) {
    const ofArchive = stylesOfArchive().map(({id}) => id);
    return [...new Set([...model.labels.map(({name}) => name), ...ofArchive])];
}

/** Return the properties of an element of class `name` that differ; none if `name` is empty. */
export function styleOf(name) {
    if (!name) {
        return {};
    }
    const {lineColor, fillColor, lineWidth} = stylesOfArchive().find(({id}) => id === name) || {};
    const known = Object.entries({lineColor, fillColor, lineWidth}).filter(([, value]) => value);
    return {group: name, label: {value: name}, ...Object.fromEntries(known)};
}

/** Return the styles that HistomicsUI offers for drawing; the name of each is its `id`. */
function stylesOfArchive() {
    const {collections} = girder.plugins.histomicsui;
    const styles = collections && collections.StyleCollection && new collections.StyleCollection();
    if (!styles || !styles.localStorage) {
        return [];
    }
    styles.fetch(); // from this browser's storage, synchronously
    return styles.toJSON();
}

/** Add `elements` to the user's annotation for `model` on an item, and resolve to its id. */
export async function store(elements, model, itemId) {
    const me = girder.auth.getCurrentUser().id;
    const mine = (await Api.call('GET', `annotation?itemId=${itemId}&userId=${me}&limit=0`))
        .find(({annotation, _elementCount}) => _elementCount + elements.length <= MOST &&
            ((annotation.attributes || {}).isoline || {}).prompted === model.name);
    if (mine) {
        await Api.once('PATCH', `annotation/${mine._id}`, elements.map(
            (value) => ({op: 'replace', path: `elements/id:${value.id}`, value})));
        return mine._id;
    }
    const {name, title, version} = model;
    const made = await Api.once('POST', `annotation?itemId=${itemId}`, {
        name: title || name,
        description: `isoline, ${name} ${version}`,
        attributes: {isoline: {prompted: name, version}},
        elements
    });
    return made._id;
}
