/*
 * The section of the panel for prompts: the model, the tools, undo and redo.
 */

import {button, field, make, valuesOf} from './form.js';
import {TOOLS} from './gestures.js';

const SIGNS = {point: '•', box: '▭', scribble: '∿', polygon: '◯'};

export class PointingPanel {
    /**
     * @param {import('./pointer.js').Pointer} pointer
     * @param {(name: string) => void} activate activates a tool of the viewer
     */
    constructor(pointer, activate) {
        this._pointer = pointer;
        this._offered = null;
        this._model = make('select', {id: 'pointing-model'});
        this._model.addEventListener('change', () => this._chosen());
        this._choice = make('div', {class: 'field'}, [
            make('label', {for: 'pointing-model'}, ['Answered by']), this._model]);
        this._form = make('form', {'aria-label': 'Parameters of prompts'});
        this._form.addEventListener('submit', (event) => event.preventDefault());
        this._form.addEventListener('change', () => { pointer.parameters = valuesOf(this._form); });
        this._tools = new Map(TOOLS.map((tool) => [tool, toolButton(tool, activate)]));
        this._live = make('input', {type: 'checkbox', id: 'live', checked: true});
        this._live.addEventListener('change', () => {
            pointer.live = this._live.checked;
            this.show();
        });
        this._answer = button('Answer', () => pointer.answer(), {class: 'main', title: 'Shift+A'});
        this._undo = button('Undo prompt', () => pointer.undo(), {title: 'Undo the last prompt (Shift+Z)'});
        this._redo = button('Redo prompt', () => pointer.redo(), {title: 'Redo the last undone prompt (Shift+Y)'});
        this._next = button('Next object', () => pointer.next(), {title: 'Continue in a new segment (Shift+Enter)'});
        this.element = make('section', {'aria-label': 'Point at an object'}, [
            make('h2', {}, ['Point at an object']),
            make('div', {class: 'row tools'}, [...this._tools.values()]),
            this._choice, this._form,
            make('div', {class: 'field switch'}, [
                this._live, make('label', {for: 'live'}, ['Answer after each gesture'])]),
            make('div', {class: 'row'}, [this._answer, this._undo, this._redo, this._next])
        ]);
    }

    show() {
        const {models, model, current, live} = this._pointer;
        if (models !== this._offered) {
            this._offered = models;
            this._model.replaceChildren(...models.map((each) => (
                make('option', {value: each.name, disabled: Boolean(each.problem), title: each.problem}, [each.title]))));
            this._model.value = model?.name ?? '';
            this._choice.hidden = models.length < 2;
            this._chosen();
        }
        this.element.hidden = !model;
        this._tools.forEach((element, tool) => { element.hidden = !model?.prompts.includes(tool.kind); });
        this._answer.hidden = live;
        this._answer.disabled = !current?.waits;
        this._undo.disabled = !current?.steps.length;
        this._redo.disabled = !current?.undone.length;
    }

    _chosen() {
        const model = this._offered.find((each) => each.name === this._model.value) ?? null;
        this._pointer.model = model;
        this._form.replaceChildren(...(model?.parameters ?? []).map(field));
        this._pointer.parameters = valuesOf(this._form);
    }
}

function toolButton({name, kind, include, label, key}, activate) {
    return button(`${SIGNS[kind]}${include ? '' : ' −'}`, () => activate(name), {
        title: `${label} (Shift+${key})`, 'aria-label': label, class: include ? 'on' : 'off'
    });
}
