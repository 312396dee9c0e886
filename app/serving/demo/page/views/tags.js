// Words with their tags.

import { h, percent, tint } from "../dom.js";

export const title = "Tags";
export const outputs = ["tags", "tokens"];

export function render(response) {
  if (!response.tokens.length) return [h("p", {}, "The text has no words.")];
  return [h("div", { class: "words" }, response.tokens.map((token, at) => {
    const tag = response.tags[at], colour = hue(tag);
    const probability = response.probability ? percent(response.probability[at]) : "";
    const element = h("span", { class: "tagged", title: probability },
      h("span", {}, token), h("small", {}, tag));
    element.style.background = tint(colour, 0.16);
    element.style.borderBottomColor = `var(--${colour})`;
    return element;
  }))];
}

// The same colour for a tag wherever it occurs; B-PER and I-PER share one.
export function hue(tag) {
  let sum = 0;
  for (const character of tag.replace(/^[BIESLU]-/, "")) {
    sum = (31 * sum + character.codePointAt(0)) % 9973;
  }
  return tag === "O" ? "h7" : `h${sum % 7}`;
}
