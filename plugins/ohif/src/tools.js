/*
 * The tools of gestures.js in OHIF: in cornerstone, in the toolbar and on the keyboard.
 */

import {TOOLS, colorOf, promptOf} from './gestures.js';

const TOOL_GROUPS = ['default', 'mpr'];
const FIELDS = 'input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]';
const BEYOND_PX = 4; // cornerstone tolerates a movement of up to 3

/** Add the tools to the tool groups and to the toolbar of the current mode. */
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

/** Return whether the current mode has the tools; other modes have their own shortcuts. */
export function hasTools({toolGroupService}) {
    return TOOL_GROUPS.some((id) => toolGroupService.getToolGroup(id)?.hasTool(TOOLS[0].name));
}

/**
 * Call `listener` with each {prompt, mark} that the user draws; return a function that unsubscribes.
 *
 * A mark stays on the image and cannot be moved; `Viewer.unmark` removes it.
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
 * Make gestures take effect at once, in every viewport; return a function that undoes this.
 *
 * The viewer holds back a click for 400 ms, as it may become a double click, unless the mouse moves;
 * and the first press on an inactive viewport only activates it.
 */
export function hurry({cornerstoneTools}) {
    const pressed = (event) => {
        if (toolAt(event.target, cornerstoneTools)) {
            event.preventDefault = () => {}; // it would withhold the press from the tool
        }
    };
    const released = ({target, clientX, clientY}) => {
        if (toolAt(target, cornerstoneTools)?.kind === 'point') {
            viewportAt(target).dispatchEvent(new MouseEvent('mousemove', {clientX: clientX + BEYOND_PX, clientY}));
        }
    };
    window.addEventListener('pointerdown', pressed, {capture: true});
    window.addEventListener('mouseup', released); // after cornerstone, which listens at the document
    return () => {
        window.removeEventListener('pointerdown', pressed, {capture: true});
        window.removeEventListener('mouseup', released);
    };
}

/** Return the tool that is active in the viewport of `target`, undefined for any other tool. */
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
 * Call the action of a key that is pressed with Shift; return a function that unsubscribes.
 *
 * @param {Record<string, () => void>} actions by key
 * @param {() => boolean} isOffered returns whether they are available now
 */
export function onKeys(actions, isOffered) {
    const heard = (event) => {
        const {shiftKey, ctrlKey, altKey, metaKey, key} = event;
        const [target] = event.composedPath(); // also within the panel's shadow root
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
