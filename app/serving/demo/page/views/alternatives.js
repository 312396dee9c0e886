// Several sentences with their log-probabilities, the best first.

import { h } from "../dom.js";

export const title = "Alternatives";
export const outputs = ["log_probabilities"];

const IMPOSSIBLE = -1e8;  // beam search pads with worse sentences where it has found too few

export function render(response) {
  const [name] = Object.keys(response).filter((key) =>
    Array.isArray(response[key]) && response[key].every((item) => typeof item === "string"));
  if (response.valid === false) return [h("p", {}, "This is not an image that the model reads.")];
  const found = response[name].map((text, at) => [text, response.log_probabilities[at]])
    .filter(([, score]) => score > IMPOSSIBLE);
  return [h("ol", {}, found.map(([text, score]) => h("li", {}, h("bdi", {}, text || "(empty)"), " ",
    h("span", { class: "faint" }, `log-probability ${score.toFixed(2)}`))))];
}
