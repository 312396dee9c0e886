// What a model writes after a text.

import { h } from "../dom.js";

export const title = "Continuation";
export const outputs = ["continuation", "tokens", "log_probabilities", "lengths"];

export function render(response) {
  return [h("p", { class: "large" }, response.continuation || "(empty)")];
}
