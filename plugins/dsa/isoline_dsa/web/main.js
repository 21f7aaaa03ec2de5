/*
 * The Isoline panel in HistomicsUI, and Isoline's page in Girder's settings.
 *
 * Plain JavaScript. The files are modules, which the plugin joins to one script when it starts
 * (page.py): Girder 3 loads exactly one. Nothing is left behind on `window`.
 *
 *   panel      models, parameters, and the tools of the model
 *   regions    saying where to segment
 *   runs       one run: progress, Stop, Accept, Discard
 *   prompting  pointing at objects: clicks, boxes, scribbles; what is accepted (objects)
 *   layers     what is drawn on the slide
 *   api        requests; when they are tried again is told by two files of isoline's plugin for OHIF
 *   settings   for administrators
 */
import {girder} from './page.js';
import {Panel} from './panel.js';
import {offerSettings} from './settings.js';

/** Show a panel beside each slide that HistomicsUI opens. */
function watch(histomics) {
    let view = null;
    let panel = null;
    // the view is no one's property: it shows itself when it renders
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
