/*
 * The parts of OHIF that isoline uses: the series on screen, and its labelmaps. All code that depends
 * on OHIF's interfaces is here, in labelmap.js and in tools.js.
 */

import {frameOf, nearestPlane} from './geometry.js';
import {Labelmap} from './labelmap.js';

/** OHIF's name for the panel. */
export const PANEL = '@isoline/ohif.panelModule.isoline';

const CORNERSTONE = '@ohif/extension-cornerstone.utilityModule.common';

export class Viewer {
    /** @param {{servicesManager: object, extensionManager: object}} ohif as passed to extensions */
    constructor({servicesManager, extensionManager}) {
        this._extensions = extensionManager;
        this.services = servicesManager.services;
        this._labelmaps = new Map(); // by segmentation id
    }

    /** The instances of cornerstone and cornerstoneTools that OHIF uses. */
    get libraries() {
        return this._extensions.getModuleEntry(CORNERSTONE).exports.getCornerstoneLibraries();
    }

    /** The value of the Authorization header for a user who has signed in to OHIF, otherwise ''. */
    get authorization() {
        return this.services.userAuthenticationService?.getAuthorizationHeader?.()?.Authorization ?? '';
    }

    /** OHIF's name for the archive that it shows. */
    get archive() {
        return this._extensions.getActiveDataSourceDefinition?.()?.sourceName ?? '';
    }

    /**
     * The format in which segmentations are stored: the one that this OHIF would use itself, which from
     * 3.13 on is a label map unless configured otherwise. Earlier versions cannot read label maps; 3.13
     * cannot read every binary segmentation (nor can Orthanc return its frames).
     */
    get storeFormat() {
        const definition = this._extensions.getActiveDataSourceDefinition?.();
        const mode = definition?.configuration?.segmentation?.store?.defaultMode ??
            this.services.customizationService?.getCustomization?.('segmentation.store.defaultMode');
        return mode === 'labelmap' ? 'dicomseg-labelmap' : 'dicomseg';
    }

    /** Return {viewportId, displaySet} of the active viewport, null if it shows no series of slices. */
    onScreen() {
        const {viewportGridService, displaySetService} = this.services;
        const {activeViewportId, viewports} = viewportGridService.getState();
        const shown = viewports.get(activeViewportId)?.displaySetInstanceUIDs ?? [];
        const displaySet = shown.map((uid) => displaySetService.getDisplaySetByUID(uid))
            .find((each) => each?.imageIds?.length && !each.isOverlayDisplaySet);
        return displaySet ? {viewportId: activeViewportId, displaySet} : null;
    }

    /** Return {instance, frame} of an image, given its id in OHIF. */
    sliceOf(imageId) {
        const {metaData} = this.libraries.cornerstone;
        const instance = metaData.get('instance', imageId)?.SOPInstanceUID ??
            metaData.get('sopCommonModule', imageId)?.sopInstanceUID;
        return {instance, frame: frameOf(imageId)};
    }

    /** Return the FrameOfReferenceUID of a series. */
    frameOfReference({displaySet}) {
        const {metaData} = this.libraries.cornerstone;
        return metaData.get('imagePlaneModule', displaySet.imageIds[0])?.frameOfReferenceUID;
    }

    /** Show a mark that was removed. */
    mark(annotation) {
        const {state} = this.libraries.cornerstoneTools.annotation;
        state.addAnnotation(annotation, annotation.metadata.FrameOfReferenceUID);
        this._drawMarks();
    }

    /** Remove a mark. */
    unmark({annotationUID}) {
        this.libraries.cornerstoneTools.annotation.state.removeAnnotation(annotationUID);
        this._drawMarks();
    }

    /** Return {instance, frame} of the slice of a series that the user is viewing, null for none. */
    look({viewportId, displaySet}) {
        const viewport = this.services.cornerstoneViewportService.getCornerstoneViewport(viewportId);
        const point = viewport?.getCamera?.().focalPoint;
        if (!point) {
            return null;
        }
        const {metaData} = this.libraries.cornerstone;
        const planes = displaySet.imageIds.map((id) => metaData.get('imagePlaneModule', id));
        const k = nearestPlane(planes.map((plane) => ({
            origin: [...plane.imagePositionPatient],
            row: [...plane.rowCosines],
            column: [...plane.columnCosines]
        })), [...point]);
        return k < 0 ? null : this.sliceOf(displaySet.imageIds[k]);
    }

    /** Return the active labelmap of the series on screen, null if there is none. */
    labelmap({viewportId, displaySet}) {
        const active = this.services.segmentationService.getActiveSegmentation(viewportId);
        const labelmap = active && this._labelmap(active.segmentationId);
        return labelmap?.covers(displaySet.imageIds) ? labelmap : null;
    }

    /** Create an empty labelmap with one segment for the series on screen, and resolve to it. */
    async newLabelmap({viewportId, displaySet}, name, {label, color}) {
        const {segmentationService} = this.services;
        const segmentationId = await segmentationService.createLabelmapForDisplaySet(displaySet, {
            label: name, segments: {1: {segmentIndex: 1, label, active: true}}
        });
        for (const id of this._showing(displaySet, viewportId)) {
            await segmentationService.addSegmentationRepresentation(
                id, {segmentationId, type: this.libraries.cornerstoneTools.Enums.SegmentationRepresentations.Labelmap});
        }
        // OHIF shows its own panel when there is a new segmentation
        this.services.panelService.activatePanel(PANEL, true);
        const labelmap = this._labelmap(segmentationId);
        labelmap.paint(1, color);
        return labelmap;
    }

    /** Call `listener` when the screen or its segments change; return a function that unsubscribes. */
    subscribe(listener) {
        const {segmentationService: segments, viewportGridService: grid} = this.services;
        const subscriptions = [
            ...['SEGMENTATION_ADDED', 'SEGMENTATION_MODIFIED', 'SEGMENTATION_REMOVED',
                'SEGMENTATION_REPRESENTATION_MODIFIED', 'SEGMENTATION_REPRESENTATION_REMOVED']
                .map((name) => [segments, name]),
            ...['ACTIVE_VIEWPORT_ID_CHANGED', 'GRID_STATE_CHANGED'].map((name) => [grid, name])
        ].filter(([service, name]) => service.EVENTS[name])
            .map(([service, name]) => service.subscribe(service.EVENTS[name], listener));
        return () => subscriptions.forEach((each) => each.unsubscribe());
    }

    /** Have OHIF load a series that has just been stored. */
    async discover(study, series) {
        const [source] = this._extensions.getActiveDataSource();
        await source.retrieve.series.metadata(
            {StudyInstanceUID: study, filters: {seriesInstanceUID: series}});
    }

    /** Return the viewports that show a series, `first` first: adding to the others may wait for it. */
    _showing(displaySet, first) {
        const {viewports} = this.services.viewportGridService.getState();
        const others = [...viewports.values()]
            .filter((each) => each.displaySetInstanceUIDs?.includes(displaySet.displaySetInstanceUID))
            .map((each) => each.viewportId ?? each.viewportOptions?.viewportId)
            .filter((id) => id && id !== first);
        return [first, ...others];
    }

    _drawMarks() {
        const {viewports} = this.services.viewportGridService.getState();
        this.libraries.cornerstoneTools.utilities.triggerAnnotationRenderForViewportIds([...viewports.keys()]);
    }

    _labelmap(segmentationId) {
        const known = this._labelmaps.get(segmentationId);
        if (known?.size) {
            return known;
        }
        const labelmap = new Labelmap(this, segmentationId);
        this._labelmaps.set(segmentationId, labelmap);
        const segments = labelmap.list();
        if (segments.length && !segments.some((each) => each.active)) {
            labelmap.activate(segments[0].index); // in a loaded label map the background is active
        }
        return labelmap;
    }
}
