/* The style of the panel, in the colours of OHIF's theme. */

export const sheet = new CSSStyleSheet();
sheet.replaceSync(`
:host {
    --ink: hsl(var(--foreground, 0 0% 98%));
    --faint: hsl(var(--muted-foreground, 200 46% 65%));
    --line: hsl(var(--input, 236 52% 30%));
    --ground: hsl(var(--background, 0 0% 0%));
    --accent: hsl(var(--primary, 214 98% 60%));
    display: block;
    height: 100%;
    overflow-y: auto;
    padding: 12px;
    box-sizing: border-box;
    color: var(--ink);
    font: 13px/1.45 Inter, system-ui, sans-serif;
}
* { box-sizing: border-box; }
[hidden] { display: none !important; }
section + section { margin-top: 16px; padding-top: 12px; border-top: 1px solid var(--line); }
h2 { margin: 0 0 6px; font-size: 13px; font-weight: 600; color: var(--faint); }
p { margin: 6px 0; color: var(--faint); overflow-wrap: anywhere; }
label { display: block; margin-bottom: 2px; color: var(--faint); }
input, select, button { font: inherit; color: inherit; color-scheme: dark; }
select, input[type=number], input[type=text] {
    width: 100%;
    height: 28px;
    padding: 2px 6px;
    border: 1px solid var(--line);
    border-radius: 4px;
    background: var(--ground);
}
input:invalid { border-color: #f87171; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
details { margin: 8px 0; }
summary { cursor: pointer; color: var(--accent); }
.field { margin-top: 8px; }
.switch { display: flex; gap: 6px; align-items: center; }
.switch label { margin: 0; }
.row { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; margin-top: 8px; }
.row input[type=text] { flex: 1; width: 0; min-width: 0; }
button {
    height: 28px;
    padding: 0 12px;
    border: 1px solid var(--line);
    border-radius: 4px;
    background: hsl(var(--popover, 219 90% 15%));
    cursor: pointer;
    white-space: nowrap;
}
button:hover:enabled { border-color: var(--accent); }
button:disabled { opacity: 0.45; cursor: default; }
button.main { background: var(--accent); border-color: var(--accent); color: #000; font-weight: 600; }
.tools { display: grid; grid-template-columns: repeat(6, 1fr); }
.tools button { padding: 0; font-size: 16px; }
button.on { color: #4ade80; }
button.off { color: #f87171; }
progress { width: 100%; height: 6px; margin-top: 10px; accent-color: var(--accent); }
.said { min-height: 1.5em; color: var(--ink); }
.error { color: #fca5a5; }
ul { list-style: none; margin: 0; padding: 0; }
li { display: flex; gap: 6px; align-items: center; padding: 2px 0; }
li input[type=text] { flex: 1; min-width: 0; border-color: transparent; }
li input[type=text]:hover, li input[type=text]:focus { border-color: var(--line); }
li input[type=color] { width: 24px; height: 24px; padding: 0; border: 0; background: none; flex: none; cursor: pointer; }
li label { margin: 0; display: flex; gap: 3px; align-items: center; }
`);
