/*
 * The tools of gestures.js in OHIF: registered with cornerstone, in the toolbar, on the keyboard.
 */

import {TOOLS, colorOf, promptOf} from './gestures.js';

const TOOL_GROUPS = ['default', 'mpr'];
const FIELDS = 'input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]';
const BEYOND_PX = 4; // cornerstone takes up to 3 for the trembling of a hand

/** Offer the tools in the tool groups and in the toolbar of the mode that was entered. */
export function addTools({toolbarService, toolGroupService}, {cornerstoneTools}) {
    for (const {name, base} of TOOLS) {
        if (!cornerstoneTools.state.tools[name]) {
            cornerstoneTools.addTool(class extends cornerstoneTools[base] {
                static toolName = name;
            });
        }
    }
    const passive = TOOLS.map(({name, settings}) => ({
        toolName: name, configuration: {...settings, calculateStats: false, getTextLines: () => null}
    }));
    for (const id of TOOL_GROUPS.filter((each) => toolGroupService.getToolGroup(each))) {
        toolGroupService.addToolsToToolGroup(id, {passive});
    }
    toolbarService.register(TOOLS.map(({name, icon, label, key}) => ({
        id: name,
        uiType: 'ohif.toolButton',
        props: {
            icon, label, tooltip: `${label} (Shift+${key})`,
            commands: 'setToolActiveToolbar', evaluate: 'evaluate.cornerstoneTool'
        }
    })));
    const section = toolbarService.sections?.primary ?? 'primary';
    const before = toolbarService.state.buttonSections[section] ?? [];
    const names = TOOLS.map((each) => each.name);
    toolbarService.updateSection(section, [...before.filter((each) => !names.includes(each)), ...names]);
}

/** Whether the mode that was entered offers the tools: other modes have shortcuts of their own. */
export function hasTools({toolGroupService}) {
    return TOOL_GROUPS.some((id) => toolGroupService.getToolGroup(id)?.hasTool(TOOLS[0].name));
}

/**
 * Call `listener` with each {prompt, mark} that the user draws; return how to stop that.
 *
 * A mark stays on the image, and cannot be moved, until `unmark`.
 */
export function onGesture({cornerstone, cornerstoneTools}, listener) {
    const name = cornerstoneTools.Enums.Events.ANNOTATION_COMPLETED;
    const {config, locking} = cornerstoneTools.annotation;
    const heard = ({detail: {annotation}}) => {
        const prompt = promptOf(annotation);
        if (prompt) {
            const tool = TOOLS.find((each) => each.name === annotation.metadata.toolName);
            const color = colorOf(tool);
            config.style.setAnnotationStyles(annotation.annotationUID, {
                color, colorHighlighted: color, colorLocked: color, colorSelected: color
            });
            locking.setAnnotationLocked(annotation.annotationUID, true);
            listener({prompt, mark: annotation});
        }
    };
    cornerstone.eventTarget.addEventListener(name, heard);
    return () => cornerstone.eventTarget.removeEventListener(name, heard);
}

/**
 * Let what is drawn with the tools count at once and everywhere; return how to stop that.
 *
 * The viewer keeps a click for 400 ms, as it may become a double click, unless the mouse goes on; and
 * the first press on a viewport that is not active does nothing but activate it.
 */
export function hurry({cornerstoneTools}) {
    const pressed = (event) => {
        if (toolAt(event.target, cornerstoneTools)) {
            event.preventDefault = () => {}; // which would keep the press from the tool
        }
    };
    const released = ({target, clientX, clientY}) => {
        if (toolAt(target, cornerstoneTools)?.kind === 'point') {
            viewportAt(target).dispatchEvent(new MouseEvent('mousemove', {clientX: clientX + BEYOND_PX, clientY}));
        }
    };
    window.addEventListener('pointerdown', pressed, {capture: true});
    window.addEventListener('mouseup', released); // cornerstone, at the document, has heard it before
    return () => {
        window.removeEventListener('pointerdown', pressed, {capture: true});
        window.removeEventListener('mouseup', released);
    };
}

/** Return the one of the tools that draws where `target` is on the page, undefined for none. */
function toolAt(target, {ToolGroupManager}) {
    const {viewportUid, renderingEngineUid} = viewportAt(target)?.dataset ?? {};
    const group = viewportUid && ToolGroupManager.getToolGroupForViewport(viewportUid, renderingEngineUid);
    const name = group?.getActivePrimaryMouseButtonTool();
    return TOOLS.find((each) => each.name === name);
}

function viewportAt(target) {
    return target.closest?.('[data-viewport-uid]');
}

/**
 * Call the action of a key that was pressed with Shift; return how to stop that.
 *
 * @param {Record<string, () => void>} actions by key
 * @param {() => boolean} isOffered whether they mean anything now
 */
export function onKeys(actions, isOffered) {
    const heard = (event) => {
        const {shiftKey, ctrlKey, altKey, metaKey, key} = event;
        const [target] = event.composedPath(); // also within the panel's shadow
        const isTyping = target.closest?.(FIELDS);
        const action = actions[key.length === 1 ? key.toUpperCase() : key];
        if (action && shiftKey && !(ctrlKey || altKey || metaKey || isTyping) && isOffered()) {
            event.preventDefault();
            event.stopPropagation();
            action();
        }
    };
    document.addEventListener('keydown', heard, {capture: true});
    return () => document.removeEventListener('keydown', heard, {capture: true});
}
