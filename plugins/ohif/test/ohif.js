/*
 * OHIF with one series on screen, in memory: as much of it as the plugin uses.
 */

const VIEWPORT = 'viewport';
const DISPLAY_SET = {
    displaySetInstanceUID: 'series on screen', StudyInstanceUID: '1.2.3', SeriesInstanceUID: '1.2.3.4'
};

export class InMemoryOHIF {
    /** @param {object} volume as in docs/protocol.md#mask; its slices have names */
    constructor(volume) {
        this._volume = volume;
        // OHIF has an order of its own
        this._planes = volume.slices.map((name, k) => ({name, k, id: `wadors:${name.instance}/frames/${name.frame}`}))
            .reverse();
        this._focus = centreOf(volume, 0);
        this._segmentations = new Map();
        this._images = new Map();
        const displaySet = {...DISPLAY_SET, imageIds: this._planes.map(({id}) => id)};
        this.servicesManager = {services: {
            segmentationService: this._segmentationService(),
            viewportGridService: {getState: () => ({
                activeViewportId: VIEWPORT,
                viewports: new Map([[VIEWPORT, {displaySetInstanceUIDs: [displaySet.displaySetInstanceUID]}]])
            })},
            displaySetService: {getDisplaySetByUID: () => displaySet},
            cornerstoneViewportService: {getCornerstoneViewport: () => ({
                getCamera: () => ({focalPoint: this._focus}),
                getActors: () => [...this._segmentations.keys()].map((representationUID) => ({representationUID}))
            })},
            panelService: {activatePanel() {}}
        }};
        this.extensionManager = {
            getModuleEntry: () => ({exports: {getCornerstoneLibraries: () => this._libraries()}})
        };
    }

    /** Let the user scroll to slice k. */
    lookAt(k) {
        this._focus = centreOf(this._volume, k);
    }

    _libraries() {
        const nothing = () => {};
        return {
            cornerstone: {
                metaData: {get: (kind, id) => this._metaData(id)},
                cache: {getImage: (id) => this._images.get(id)}
            },
            cornerstoneTools: {
                Enums: {SegmentationRepresentations: {Labelmap: 'Labelmap'}},
                segmentation: {triggerSegmentationEvents: {triggerSegmentationDataModified: nothing}},
                annotation: {state: {addAnnotation: nothing, removeAnnotation: nothing}},
                utilities: {triggerAnnotationRenderForViewportIds: nothing}
            }
        };
    }

    /** Everything that OHIF knows of an image; the plugin asks for it module by module. */
    _metaData(imageId) {
        const {name, k} = this._planes.find(({id}) => id === imageId);
        const {step_i_mm: i, step_j_mm: j, frame_of_reference: frameOfReferenceUID} = this._volume;
        return {
            SOPInstanceUID: name.instance,
            frameOfReferenceUID,
            imagePositionPatient: positionOf(this._volume, [0, 0, k]),
            rowCosines: direction(i),
            columnCosines: direction(j)
        };
    }

    _segmentationService() {
        const segment = (id, index) => this._segmentations.get(id).segments[index];
        const active = () => [...this._segmentations.keys()].at(-1);
        return {
            EVENTS: {},
            getActiveSegmentation: () => active() && {segmentationId: active()},
            getSegmentation: (id) => this._segmentations.get(id),
            getViewportIdsWithSegmentation: () => [VIEWPORT],
            createLabelmapForDisplaySet: async (displaySet, {label, segments}) => this._newLabelmap(label, segments),
            addSegmentationRepresentation: async () => {},
            addSegment: (id, {segmentIndex, label}) => {
                this._segmentations.get(id).segments[segmentIndex] = {segmentIndex, label};
            },
            removeSegment: (id, index) => { delete this._segmentations.get(id).segments[index]; },
            setActiveSegment: (id, index) => {
                Object.values(this._segmentations.get(id).segments).forEach((each) => { each.active = false; });
                segment(id, index).active = true;
            },
            getSegmentColor: (viewport, id, index) => segment(id, index).color,
            setSegmentColor: (viewport, id, index, color) => { segment(id, index).color = color; }
        };
    }

    _newLabelmap(label, segments) {
        const id = `segmentation ${this._segmentations.size}`;
        const [columns, rows] = this._volume.size;
        const imageIds = this._planes.map(({id: referencedImageId}) => {
            const pixels = new Uint8Array(columns * rows);
            const imageId = `${id} ${referencedImageId}`;
            this._images.set(imageId, {columns, referencedImageId, voxelManager: {getScalarData: () => pixels}});
            return imageId;
        });
        this._segmentations.set(id, {label, segments, representationData: {Labelmap: {imageIds}}});
        return id;
    }
}

function centreOf(volume, k) {
    const [columns, rows] = volume.size;
    return positionOf(volume, [(columns - 1) / 2, (rows - 1) / 2, k]);
}

/** Return where the voxel [i, j, k] lies, in LPS millimetres. */
function positionOf({origin_mm: origin, ...volume}, [i, j, k]) {
    return origin.map((at, axis) => at + i * volume.step_i_mm[axis] + j * volume.step_j_mm[axis] + k * volume.step_k_mm[axis]);
}

function direction(step) {
    const length = Math.hypot(...step);
    return step.map((each) => each / length);
}
