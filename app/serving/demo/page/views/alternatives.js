// Several sentences with their log-probabilities, the best first.

import { h } from "../dom.js";

export const title = "Alternatives";
export const outputs = ["log_probabilities"];

export function render(response) {
  const [name] = Object.keys(response).filter((key) =>
    Array.isArray(response[key]) && response[key].every((item) => typeof item === "string"));
  if (response.valid === false) return [h("p", {}, "This is not an image that the model reads.")];
  return [h("ol", {}, response[name].map((text, at) => h("li", {}, text || "(empty)", " ",
    h("span", { class: "faint" }, `log-probability ${response.log_probabilities[at].toFixed(2)}`))))];
}
