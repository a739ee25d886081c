// The page's scripts are modules that a browser runs as they are; boot.js alone is a function body that Gradio runs.

import js from "@eslint/js";
import globals from "globals";

const rules = {
  ...js.configs.recommended.rules,
  "no-shadow": "error",
  "no-undef": "error",
  "no-unused-vars": ["error", { args: "after-used", argsIgnorePattern: "^_" }],
  "no-var": "error",
  "prefer-const": ["error", { destructuring: "all" }],
  eqeqeq: "error",
  "no-restricted-globals": ["error", "event", "name", "status", "top", "parent", "origin"],
};
const boot = "ichseg/page/viewer/boot.js";

export default [
  { files: ["ichseg/page/**/*.js"], ignores: [boot], languageOptions: { globals: globals.browser }, rules },
  {
    files: [boot],
    languageOptions: { sourceType: "script", globals: { ...globals.browser, element: "readonly", props: "readonly", trigger: "readonly", watch: "readonly" } },
    rules: { ...rules, "no-unused-vars": "error" },
  },
  { files: ["tests/page/js/**/*.mjs", "eslint.config.mjs"], languageOptions: { globals: globals.node }, rules },
];
