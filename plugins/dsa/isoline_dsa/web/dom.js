/* Functions that create elements, and functions that wait. */
export function make(tag, attributes, children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
        if (value !== undefined && value !== null) {
            element.setAttribute(key, value);
        }
    }
    element.append(...(children || []));
    return element;
}

export function button(label, action, style, title) {
    const element = make('button', {type: 'button', class: `btn btn-sm ${style}`, title}, [label]);
    element.addEventListener('click', action);
    return element;
}

export function once(emitter, event) {
    return new Promise((resolve) => { emitter.once(event, resolve); });
}

export function pause(milliseconds) {
    return new Promise((resolve) => { setTimeout(resolve, milliseconds); });
}
