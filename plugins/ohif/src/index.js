/*
 * The isoline extension of OHIF 3, loaded at run time: `extensions: ['/ohif/index.js']` in
 * app-config.js. docs/ohif.md describes the settings.
 */

import {Client} from './client.js';
import {TOOLS} from './gestures.js';
import {panelFor} from './panel.js';
import {Session} from './session.js';
import {hasTools, hurry, onGesture, onKeys} from './tools.js';
import {PANEL, Viewer} from './viewer.js';

const ELEMENT = 'isoline-panel';

function extension() {
    let viewer = null;
    let session = null;
    let activate = null;
    let stopListening = [];
    return {
        id: '@isoline/ohif',

        preRegistration({servicesManager, extensionManager, commandsManager, appConfig}) {
            activate = (toolName) => commandsManager.runCommand('setToolActiveToolbar', {toolName});
            const {server, source, token} = appConfig?.isoline ?? {};
            viewer = new Viewer({servicesManager, extensionManager});
            const client = new Client(
                new URL(server || '..', import.meta.url).href,
                () => (token ? `Bearer ${token}` : viewer.authorization));
            session = new Session(client, viewer, source);
            customElements.define(ELEMENT, panelFor(session, activate));
            window.addEventListener('pagehide', () => session.leave());
        },

        onModeEnter() {
            const {pointer} = session;
            const tools = TOOLS.map(({name, key}) => [key, () => activate(name)]);
            stopListening = [
                onGesture(viewer.libraries, (gesture) => pointer.take(gesture)),
                hurry(viewer.libraries),
                onKeys({
                    ...Object.fromEntries(tools),
                    Z: () => pointer.undo(), Y: () => pointer.redo(),
                    Enter: () => pointer.next(), A: () => pointer.answer()
                }, () => hasTools(viewer.services))
            ];
        },

        onModeExit() {
            stopListening.forEach((stop) => stop());
            session.leave();
        },

        getPanelModule() {
            const [name] = PANEL.split('.').slice(-1);
            return [{
                name, label: 'isoline', iconName: 'icon-tool-click-segment', iconLabel: 'isoline', component: ELEMENT
            }];
        }
    };
}

export default extension();
