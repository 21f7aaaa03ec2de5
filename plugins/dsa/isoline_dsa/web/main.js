/*
 * The Isoline panel in HistomicsUI, and Isoline's page in Girder's settings.
 *
 * Plain JavaScript. The files are modules, which the plugin joins into one script when it starts
 * (page.py), since Girder 3 loads exactly one. No globals are defined on `window`.
 *
 *   panel      models, parameters, and the tools of the model
 *   regions    choosing the region to segment
 *   runs       one run: progress, Stop, Accept, Discard
 *   prompting  prompts: clicks, boxes, scribbles (pointer), and the accepted objects (objects)
 *   layers     drawing on the slide
 *   api        requests; two files of isoline's plugin for OHIF retry them (retry, attempt)
 *   settings   the page for administrators
 */
import {girder} from './page.js';
import {Panel} from './panel.js';
import {offerSettings} from './settings.js';

/** Show a panel beside each slide that HistomicsUI opens. */
function watch(histomics) {
    let view = null;
    let panel = null;
    // HistomicsUI does not expose the view, so it is captured when it renders
    const {prototype} = histomics.views.body.ImageView;
    const render = prototype.render;
    prototype.render = function (...args) {
        view = this;
        return render.apply(this, args);
    };
    histomics.events.on('h:imageOpened', (model) => {
        if (panel) {
            panel.dispose();
            panel = null;
        }
        if (model && girder.auth.getCurrentUser()) {
            setTimeout(() => { // HistomicsUI has more to do in the same event
                if (!panel && view && view.viewerWidget && view.viewerWidget.viewer) {
                    panel = new Panel(view);
                }
            });
        }
    });
}

if (girder && girder.plugins && girder.plugins.histomicsui) {
    watch(girder.plugins.histomicsui);
}
if (girder && girder.utilities && girder.utilities.PluginUtils) {
    offerSettings();
}
