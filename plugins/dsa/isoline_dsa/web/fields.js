/* The form for a model's parameters. */
import {make} from './dom.js';

/** Return the form field for a parameter of a model. */
export function field(parameter) {
    const id = `isoline-parameter-${parameter.name}`;
    let input;
    if (parameter.kind === 'choice') {
        input = make('select', {id, name: parameter.name, class: 'form-control input-sm'},
            parameter.choices.map((choice) => make('option', {value: choice}, [choice])));
        input.value = parameter.default;
    } else if (parameter.kind === 'switch') {
        input = make('input', {id, name: parameter.name, type: 'checkbox'});
        input.checked = parameter.default;
    } else {
        input = make('input', {
            id,
            name: parameter.name,
            type: 'number',
            class: 'form-control input-sm',
            min: parameter.minimum,
            max: parameter.maximum,
            step: 'any',
            value: parameter.default
        });
    }
    const unit = parameter.unit ? ` (${parameter.unit})` : '';
    const label = make('label', {for: id, title: parameter.help || ''}, [
        (parameter.title || parameter.name) + unit]);
    return make('div', {class: 'isoline-field'}, [label, input]);
}
