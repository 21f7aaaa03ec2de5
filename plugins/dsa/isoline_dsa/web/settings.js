/* Isoline's page in Girder's settings. */
import {Api} from './api.js';
import {make} from './dom.js';
import {girder} from './page.js';

const SETTINGS = [
    {key: 'isoline.url', label: 'Address of the isoline server', type: 'url'},
    {key: 'isoline.token', label: 'Its token', type: 'password'},
    {key: 'isoline.name', label: 'The isoline server\'s name for this Girder: NAME of [girder.NAME]', type: 'text'}
];

/** Add the settings to those of the other plugins. */
export function offerSettings() {
    const {PluginUtils} = girder.utilities;
    const route = 'plugins/isoline/config';
    const SettingsView = girder.views.View.extend({
        initialize() {
            this.el.replaceChildren(settingsForm());
        }
    });
    PluginUtils.exposePluginConfig('isoline', route);
    girder.router.route(route, 'isolineConfig', () => {
        girder.events.trigger('g:navigateTo', SettingsView);
    });
}

function settingsForm() {
    const said = make('p', {role: 'status'});
    const form = make('form', {class: 'isoline-settings'}, [
        make('h3', {}, ['Isoline']),
        ...SETTINGS.map(({key, label, type}) => make('div', {class: 'form-group'}, [
            make('label', {for: key}, [label]),
            make('input', {id: key, name: key, type, class: 'form-control', autocomplete: 'off'})
        ])),
        make('button', {type: 'submit', class: 'btn btn-primary'}, ['Save and test']),
        said
    ]);
    settings('GET', {list: JSON.stringify(SETTINGS.map(({key}) => key))}).then((values) => {
        SETTINGS.forEach(({key}) => { form.elements[key].value = values[key] || ''; });
    }).catch((error) => { said.textContent = error.message; });
    form.addEventListener('submit', async (event) => {
        event.preventDefault();
        said.textContent = 'Saving';
        try {
            const list = SETTINGS.map(({key}) => ({key, value: form.elements[key].value}));
            await settings('PUT', {list: JSON.stringify(list)});
            const {status, version, workers} = await Api.once('GET', 'isoline/server');
            said.textContent = `Saved. isoline ${version} is ${status}, with ${workers} workers.`;
        } catch (error) {
            said.textContent = error.message;
        }
    });
    return form;
}

function settings(method, data) {
    return new Promise((resolve, reject) => {
        girder.rest.restRequest({method, url: 'system/setting', data, error: null})
            .done(resolve)
            .fail((answer) => reject(new Error((answer.responseJSON || {}).message || 'The request failed.')));
    });
}
