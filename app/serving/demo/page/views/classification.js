// Classes or labels with their probabilities, and what each word contributes.

import { bars, h, percent, tint } from "../dom.js";

export const title = "Classification";
export const outputs = ["labels", "probabilities"];

const MAX_PARTS = 60, MAX_BARS = 12;
const MAX_BYTES = 6 * 2 ** 20;  // of the copies of a text in a request, which may have 8 MiB

export function render(response, context) {
  if (response.valid === false) return [h("p", {}, "This is not a tree that the model reads.")];
  const pairs = response.labels.map((label, at) => [label, response.probabilities[at]])
    .sort((one, other) => other[1] - one[1]);
  const top = pairs[0];
  const name = "chosen" in response ? response.label || "(no label)" : response.label;
  const parts = [h("p", { class: "large" }, h("strong", {}, name)), bars(pairs.slice(0, MAX_BARS))];
  if (pairs.length > MAX_BARS) {
    const rest = pairs.length - MAX_BARS;
    parts.push(h("p", { class: "faint" },
      `and ${rest} less probable ${rest === 1 ? "class" : "classes"}`));
  }
  // Without one of its words, the brackets of a tree would be none.
  if (!("tree" in response) && typeof context.row.text === "string" && context.row.text.trim()) {
    const index = response.labels.indexOf(top[0]);
    parts.push(contributions(context, (row) => row.probabilities[index], top[0]));
  }
  return parts;
}

// Predicts the text without each of its words, in one request.
export function contributions(context, value, name, format = percent) {
  const place = h("p", { class: "words", dir: "auto" }, "\u2026");
  const note = h("p", { class: "faint" });
  const text = context.row.text;
  const copies = Math.floor(MAX_BYTES / new TextEncoder().encode(text).length) - 1;
  const words = split(text), size = Math.ceil(words.length / Math.min(MAX_PARTS, copies));
  const parts = [];
  for (let at = 0; at < words.length; at += size) {
    parts.push([words[at][0], words[Math.min(at + size, words.length) - 1][1]]);
  }
  if (!parts.length) return null;
  const rows = [context.row, ...parts.map(([start, end]) =>
    ({ ...context.row, text: `${text.slice(0, start)}${text.slice(end)}` }))];
  context.predict(rows).then((answer) => {
    const [full, ...without] = answer.rows.map(value);
    const changes = without.map((each) => full - each);
    const most = Math.max(1e-9, ...changes.map(Math.abs));
    let last = 0;
    const spans = parts.flatMap(([start, end], at) => {
      const span = h("span", { title: signed(changes[at], format) }, text.slice(start, end));
      span.style.background = tint(changes[at] >= 0 ? "plus-back" : "minus-back", 0.6 * Math.abs(changes[at]) / most);
      const between = text.slice(last, start);
      last = end;
      return [between, span];
    });
    place.replaceChildren(...spans, text.slice(last));
    const order = changes.map((change, at) => [change, at])
      .sort((one, other) => Math.abs(other[0]) - Math.abs(one[0])).slice(0, 5);
    list.replaceChildren(...order.map(([change, at]) =>
      h("li", {}, `${text.slice(...parts[at])}: ${signed(change, format)}`)));
    note.textContent = `Orange supports ${name}, blue opposes it: the change of the ` +
      `prediction if ${size > 1 ? `these ${size} words are` : "the word is"} left out.`;
  }, (error) => { place.textContent = error.message; greatest.remove(); });
  const list = h("ul", {});
  const greatest = h("details", {}, h("summary", {}, "The greatest"), list);
  return h("div", { class: "contributions" }, h("h3", {}, "Contributions of words"), place, note,
    greatest);
}

const signed = (value, format) => `${value >= 0 ? "+" : "\u2212"}${format(Math.abs(value))}`;

// Start and end of each word.
function split(text) {
  if (typeof Intl.Segmenter === "function") {
    const segments = new Intl.Segmenter(undefined, { granularity: "word" }).segment(text);
    return [...segments].filter((each) => each.isWordLike)
      .map((each) => [each.index, each.index + each.segment.length]);
  }
  return [...text.matchAll(/\S+/g)].map((match) => [match.index, match.index + match[0].length]);
}
