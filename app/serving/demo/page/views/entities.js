// Entities marked in their text, with their types.

import { h, percent, tint } from "../dom.js";
import { hue } from "./tags.js";

export const title = "Entities";
export const inputs = ["text"];
export const outputs = ["starts", "ends", "types"];

export function render(response, context) {
  // Offsets count code points, of which some are two units of a JavaScript string.
  const characters = [...context.row.text];
  const piece = (start, end) => characters.slice(start, end).join("");
  const parts = [];
  let last = 0;
  response.starts.forEach((start, at) => {
    const end = response.ends[at], type = response.types[at], colour = hue(type);
    const probability = response.probability ? percent(response.probability[at]) : "";
    const mark = h("mark", { class: "entity", title: probability },
      piece(start, end), h("small", {}, type));
    mark.style.background = tint(colour, 0.16);
    mark.style.borderBottomColor = `var(--${colour})`;
    parts.push(piece(last, start), mark);
    last = end;
  });
  return [
    h("p", { class: "words marked" }, parts, piece(last)),
    response.starts.length ? null : h("p", { class: "faint" }, "No entities."),
    response.truncated ? h("p", { class: "faint" }, "Only the first tokens were read.") : null,
  ];
}
