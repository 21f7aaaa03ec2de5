/*
 * The tools with which the user draws prompts, and the prompts that their annotations stand for.
 */

/**
 * @typedef {object} Tool
 * @property {string} name its name in the viewer
 * @property {'point' | 'box' | 'scribble' | 'polygon'} kind of prompt, as in docs/protocol.md#prompts
 * @property {boolean} include whether its prompts are on the object
 * @property {string} base the viewer's tool that it extends
 * @property {object} [settings] of that tool
 * @property {string} icon
 * @property {string} label
 * @property {string} key the shortcut, together with Shift
 */

const OPEN = {allowOpenContours: true, checkCanvasEditFallbackProximity: 0};
const CLOSED = {allowOpenContours: false};

/** @type {Tool[]} */
export const TOOLS = [
    {name: 'IsolinePoint', kind: 'point', include: true, base: 'ProbeTool',
        icon: 'icon-tool-click-segment', label: 'Point on the object', key: 'P'},
    {name: 'IsolineNotPoint', kind: 'point', include: false, base: 'ProbeTool',
        icon: 'icon-tool-probe', label: 'Point off the object', key: 'N'},
    {name: 'IsolineBox', kind: 'box', include: true, base: 'RectangleROITool',
        icon: 'tool-rectangle', label: 'Box around the object', key: 'B'},
    {name: 'IsolineScribble', kind: 'scribble', include: true, base: 'PlanarFreehandROITool',
        settings: OPEN, icon: 'icon-tool-brush', label: 'Scribble on the object', key: 'S'},
    {name: 'IsolineNotScribble', kind: 'scribble', include: false, base: 'PlanarFreehandROITool',
        settings: OPEN, icon: 'icon-tool-eraser', label: 'Scribble off the object', key: 'X'},
    {name: 'IsolineLasso', kind: 'polygon', include: true, base: 'PlanarFreehandROITool',
        settings: CLOSED, icon: 'icon-tool-freehand-roi', label: 'Lasso around the object', key: 'L'}
];

const ON = 'rgb(74, 222, 128)';
const OFF = 'rgb(248, 113, 113)';

/** Return the colour of the marks of a tool. */
export function colorOf({include}) {
    return include ? ON : OFF;
}

/**
 * Return the prompt that an annotation stands for, with points in LPS millimetres; null if it was
 * drawn with another tool.
 *
 * @param {object} annotation of cornerstone
 */
export function promptOf({metadata, data}) {
    const tool = TOOLS.find((each) => each.name === metadata.toolName);
    if (!tool) {
        return null;
    }
    const handles = data.handles?.points ?? [];
    const points = {
        point: () => handles.slice(0, 1),
        box: () => handles.slice(0, 4), // two corners would not say in which plane they lie
        scribble: () => data.contour.polyline,
        polygon: () => data.contour.polyline
    }[tool.kind]();
    return {kind: tool.kind, points: points.map((point) => [...point]), include: tool.include};
}
