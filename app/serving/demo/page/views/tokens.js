// Tokens of a text, each with its log-probability after those before it.

import { h } from "../dom.js";

export const title = "Tokens";
export const outputs = ["tokens", "log_probabilities", "lengths"];

export function render(response) {
  const words = response.tokens.map((token, at) => h("span", { class: "tagged" },
    h("span", {}, token), h("small", {}, response.log_probabilities[at].toFixed(2))));
  const about = "Log-probability of each token after those before it";
  const perplexity = response.perplexity === undefined ? "" :
    `; perplexity of the text ${response.perplexity.toPrecision(3)}`;
  return [h("div", { class: "words" }, words), h("p", { class: "faint" }, `${about}${perplexity}.`)];
}
