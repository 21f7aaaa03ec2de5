/*
 * The isoline mode of OHIF 3: OHIF's segmentation mode, with the isoline panel first on the right.
 * `modes: ['/ohif/mode.js']` in app-config.js.
 */

import {addTools} from './tools.js';
import {PANEL, Viewer} from './viewer.js';

const ID = '@isoline/ohif-mode';
// a second after each change OHIF computes statistics, then restores the segments as they were when
// it began: segments that were added, renamed or locked in the meantime would be lost
const NO_STATISTICS = {'panelSegmentation.disableUpdateSegmentationStats': {$set: true}};

export default {
    id: ID,

    async modeFactory({modeConfiguration, loadModules}) {
        const [base] = await loadModules(['@ohif/mode-segmentation']);
        const mode = await base.modeFactory({modeConfiguration, loadModules});
        return {
            ...mode,
            id: ID,
            routeName: 'isoline',
            displayName: 'isoline',
            hide: false,
            onModeEnter(ohif) {
                mode.onModeEnter(ohif);
                const {services} = ohif.servicesManager;
                services.customizationService.setCustomizations(NO_STATISTICS);
                addTools(services, new Viewer(ohif).libraries);
            },
            routes: mode.routes.map((route) => ({
                ...route, layoutTemplate: (...given) => withPanel(route.layoutTemplate(...given))
            }))
        };
    }
};

function withPanel(layout) {
    return {...layout, props: {...layout.props, rightPanels: [PANEL, ...layout.props.rightPanels]}};
}
