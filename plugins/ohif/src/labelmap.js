/*
 * A labelmap segmentation of OHIF: its voxels by slice, and its segments.
 */

import {sliceKey} from './geometry.js';

/** A `Canvas` (see drawing.js) in the viewer. */
export class Labelmap {
    /**
     * @param {import('./viewer.js').Viewer} viewer
     * @param {string} segmentationId
     */
    constructor(viewer, segmentationId) {
        this._viewer = viewer;
        this.id = segmentationId;
        this._images = imagesOf(viewer.libraries, this._segmentation);
        this._named = new Map(this._images.map((image, k) => [
            sliceKey(viewer.sliceOf(image.referencedImageId)), k]));
        /** @type {Map<number, import('./labels.js').Origin>} of the segments that models have drawn */
        this.origins = storedOrigins(this._segmentation);
    }

    /** Whether it still exists: the user may have deleted it. */
    get exists() {
        return Boolean(this._segmentation);
    }

    /** Its name, which the user can change. */
    get name() {
        return this._segmentation?.label ?? '';
    }

    get size() {
        return this._images.length;
    }

    get columns() {
        return this._images[0].columns;
    }

    /** Return the index k of the slice {instance, frame}, undefined if there is none. */
    numberOf(slice) {
        return this._named.get(sliceKey(slice));
    }

    /** Return {instance, frame} of slice k. */
    nameOf(k) {
        return this._viewer.sliceOf(this._images[k].referencedImageId);
    }

    /** Return whether it has exactly one slice for each of these images of a series. */
    covers(imageIds) {
        const known = new Set(imageIds);
        return this.size === known.size && this._images.every((each) => known.has(each.referencedImageId));
    }

    read(k) {
        return this._images[k].voxelManager.getScalarData();
    }

    write(k, pixels) {
        this.read(k).set(pixels);
    }

    /** Have the viewer draw these slices again. */
    show(slices) {
        if (slices.length) {
            this._viewer.libraries.cornerstoneTools.segmentation.triggerSegmentationEvents
                .triggerSegmentationDataModified(this.id, slices);
        }
    }

    /** Whether every viewport with this segmentation already draws it. */
    get isDrawn() {
        const {cornerstoneViewportService} = this._viewer.services;
        return this._viewports.every((id) => cornerstoneViewportService.getCornerstoneViewport(id)
            ?.getActors().some(({representationUID}) => representationUID?.includes(this.id)));
    }

    /** Return the segments, ordered by number. */
    list() {
        // segment 0 is the background of a label map that was loaded from the archive
        return Object.values(this._segmentation?.segments ?? {}).filter((each) => each?.segmentIndex).map((segment) => ({
            index: segment.segmentIndex,
            label: segment.label,
            locked: Boolean(segment.locked),
            active: Boolean(segment.active),
            color: this._color(segment.segmentIndex)
        }));
    }

    segments() {
        return new Set(this.list().map((each) => each.index));
    }

    locked() {
        return new Set(this.list().filter((each) => each.locked).map((each) => each.index));
    }

    /** Add a segment and make it active; `rgb` is its colour, by default chosen by the viewer. */
    add(index, label, rgb = null) {
        this._service.addSegment(this.id, {segmentIndex: index, label});
        if (rgb) {
            this.paint(index, rgb);
        }
    }

    remove(index) {
        this._service.removeSegment(this.id, index, {skipRecordingHistory: true});
    }

    rename(index, label) {
        this._service.setSegmentLabel(this.id, index, label);
    }

    /** Change the colour of a segment, in every viewport. */
    paint(index, rgb) {
        for (const viewportId of this._viewports) {
            this._service.setSegmentColor(viewportId, this.id, index, [...rgb, 255]);
        }
    }

    lock(index, locked) {
        this._service.setSegmentLocked(this.id, index, locked);
    }

    activate(index) {
        this._service.setActiveSegment(this.id, index);
    }

    /** Delete the segmentation. */
    delete() {
        this._service.remove(this.id);
    }

    get _service() {
        return this._viewer.services.segmentationService;
    }

    get _segmentation() {
        return this._viewer.services.segmentationService.getSegmentation(this.id);
    }

    get _viewports() {
        return this._service.getViewportIdsWithSegmentation(this.id);
    }

    _color(index) {
        const [viewportId] = this._viewports;
        const color = viewportId && this._service.getSegmentColor(viewportId, this.id, index);
        return color ? [...color].slice(0, 3) : [255, 255, 255];
    }
}

/** Return the cached images of a segmentation; none if it is not a simple labelmap. */
function imagesOf({cornerstone}, segmentation) {
    const labelmap = segmentation?.representationData?.Labelmap;
    if (!labelmap || Object.keys(labelmap.labelmaps ?? {}).length > 1) {
        return []; // layers that overlap cannot be drawn into
    }
    const ids = labelmap.imageIds ?? cornerstone.cache.getVolume(labelmap.volumeId)?.imageIds ?? [];
    const images = ids.map((id) => cornerstone.cache.getImage(id));
    return images.every(Boolean) ? images : [];
}

/** Return the origins of the segments of a segmentation that was loaded from the archive. */
function storedOrigins(segmentation) {
    const origins = new Map();
    for (const segment of Object.values(segmentation?.segments ?? {})) {
        const {algorithmName, algorithmType} = segment?.cachedStats ?? {};
        if (algorithmName && algorithmType !== 'MANUAL') {
            origins.set(segment.segmentIndex, {
                model: algorithmName, version: 'unknown', label: segment.label, edited: true
            });
        }
    }
    return origins;
}
