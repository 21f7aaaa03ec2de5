/*
 * The isoline extension of OHIF 3, loaded at run time: `extensions: ['/ohif/index.js']` in
 * app-config.js. What can be set there is told in docs/ohif.md.
 */

import {Client} from './client.js';
import {panelFor} from './panel.js';
import {Session} from './session.js';
import {PANEL, Viewer} from './viewer.js';

const ELEMENT = 'isoline-panel';

function extension() {
    let session = null;
    return {
        id: '@isoline/ohif',

        preRegistration({servicesManager, extensionManager, appConfig}) {
            const {server, source, token} = appConfig?.isoline ?? {};
            const viewer = new Viewer({servicesManager, extensionManager});
            const client = new Client(
                new URL(server || '..', import.meta.url).href,
                () => (token ? `Bearer ${token}` : viewer.authorization));
            session = new Session(client, viewer, source);
            customElements.define(ELEMENT, panelFor(session));
            window.addEventListener('pagehide', () => session.leave());
        },

        onModeExit() {
            session.leave();
        },

        getPanelModule() {
            const [name] = PANEL.split('.').slice(-1);
            return [{
                name, label: 'isoline', iconName: 'tab-segmentation', iconLabel: 'isoline', component: ELEMENT
            }];
        }
    };
}

export default extension();
