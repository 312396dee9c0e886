// Words with their tags, and with the other annotations of a version that has several.

import { h, percent, tint } from "../dom.js";

export const title = "Tags";
export const outputs = ["tags", "tokens"];

export function render(response) {
  if (!response.tokens.length) return [h("p", {}, "The text has no words.")];
  // Several annotations have a probability each; `tags` is the first of them.
  const names = Object.keys(response).filter((name) => `${name}_probability` in response);
  const others = (at) => names.map((name) => response[name][at])
    .filter((value, index, values) => value !== "_" && value !== response.tags[at] &&
      values.indexOf(value) === index);
  return [h("div", { class: "words", dir: "auto" }, response.tokens.map((token, at) => {
    const tag = response.tags[at], colour = hue(tag);
    const probability = response.probability ? percent(response.probability[at]) : "";
    const element = h("span", { class: "tagged", title: probability },
      h("span", {}, token), h("small", {}, tag),
      others(at).map((value) => h("small", {}, value)));
    element.style.background = tint(colour, 0.16);
    element.style.borderBottomColor = `var(--${colour})`;
    return element;
  }))];
}

// The same colour for a tag wherever it occurs; B-PER and I-PER share one. The factor is one by
// which PER, LOC, ORG, MISC and PROD have five.
export function hue(tag) {
  let sum = 0;
  for (const character of tag.replace(/^[BIESLU]-/, "")) {
    sum = (131 * sum + character.codePointAt(0)) % 9973;
  }
  return tag === "O" ? "h7" : `h${sum % 7}`;
}
