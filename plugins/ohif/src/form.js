/*
 * The form for a model's parameters, and small elements of the panel.
 */

/** Return an element; attributes that are null, undefined or false are omitted. */
export function make(tag, attributes = {}, children = []) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (value !== null && value !== undefined && value !== false) {
            element.setAttribute(name, value === true ? '' : value);
        }
    }
    element.append(...children);
    return element;
}

export function button(label, action, attributes = {}) {
    const element = make('button', {type: 'button', ...attributes}, [label]);
    element.addEventListener('click', action);
    return element;
}

/** Return the form field for a parameter, as in docs/protocol.md#models. */
export function field(parameter) {
    const {kind, name, help} = parameter;
    const id = `parameter-${name}`;
    const input = inputOf(parameter, {id, name, title: help});
    const label = make('label', {for: id, title: help}, [wordsOf(name)]);
    return kind === 'switch'
        ? make('div', {class: 'field switch'}, [input, label])
        : make('div', {class: 'field'}, [label, input]);
}

function inputOf({kind, choices, minimum, maximum, integer, default: value}, attributes) {
    if (kind === 'choice') {
        return make('select', attributes, choices.map((choice) => (
            make('option', {value: choice, selected: choice === value}, [choice]))));
    }
    if (kind === 'switch') {
        return make('input', {...attributes, type: 'checkbox', checked: value});
    }
    return make('input', {
        ...attributes, type: 'number', min: minimum, max: maximum, step: integer ? 1 : 'any', value, required: true
    });
}

/** Return the values of the fields in a form, by name. */
export function valuesOf(form) {
    return Object.fromEntries([...form.elements].filter((input) => input.name).map((input) => [
        input.name,
        input.type === 'checkbox' ? input.checked : input.type === 'number' ? Number(input.value) : input.value
    ]));
}

function wordsOf(name) {
    const words = name.replaceAll('_', ' ');
    return words[0].toUpperCase() + words.slice(1);
}

/** Return the remaining time in words, '' if it is unknown. */
export function timeLeft(seconds) {
    if (seconds === null || seconds === undefined) {
        return '';
    }
    return seconds < 90 ? `${Math.ceil(seconds)} s left` : `${Math.round(seconds / 60)} min left`;
}
