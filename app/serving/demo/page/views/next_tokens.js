// The most probable next tokens of a text.

import { h } from "../dom.js";

export const title = "Next tokens";
export const outputs = ["tokens", "log_probabilities"];

export function render(response) {
  return [h("ol", {}, response.tokens.map((token, at) => h("li", {}, token, " ",
    h("span", { class: "faint" }, `${(100 * Math.exp(response.log_probabilities[at])).toFixed(1)} %`))))];
}
