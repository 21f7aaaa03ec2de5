import js from "@eslint/js";

const browser = Object.fromEntries(
  [
    ...["window", "document", "location", "navigator", "console", "performance"],
    ...["fetch", "AbortController", "AbortSignal", "URL", "TextDecoder", "ReadableStream"],
    ...["setTimeout", "clearTimeout", "setInterval", "clearInterval"],
    ...["requestAnimationFrame", "cancelAnimationFrame"],
    ...["atob", "btoa", "crypto", "CSSStyleSheet"],
    ...["MutationObserver", "ResizeObserver", "CustomEvent", "MouseEvent", "customElements", "HTMLElement"],
  ].map((name) => [name, "readonly"]),
);

const tests = Object.fromEntries(
  ["Buffer", "Response", "TextEncoder", "globalThis", "process"].map((name) => [name, "readonly"]),
);

export default [
  js.configs.recommended,
  {
    files: ["plugins/**/*.js", "plugins/**/*.mjs"],
    languageOptions: { ecmaVersion: 2022, globals: browser },
    rules: { eqeqeq: "error", "no-var": "error", "prefer-const": "error", "no-shadow": "error" },
  },
  { files: ["plugins/dsa/**/*.js"], languageOptions: { sourceType: "module" } },
  { files: ["plugins/**/test/*.js", "plugins/**/test/*.mjs"], languageOptions: { globals: tests } },
];
