// A sentence that a model wrote, with its log-probability.

import { h } from "../dom.js";

export const title = "Sentence";
export const outputs = ["log_probability"];

export function render(response) {
  if (response.valid === false) return [h("p", {}, "This is not an image that the model reads.")];
  return Object.values(response).filter((value) => typeof value === "string")
    .map((text) => h("p", { class: "large" }, text || "(empty)"))
    .concat(h("p", { class: "faint" }, `log-probability ${response.log_probability.toFixed(2)}`));
}
