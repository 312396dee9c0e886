// Which words of the source each word of a translation attends to, and the reverse.

import { choices, clean, h, percent, tint } from "../dom.js";

export const title = "Alignment";
export const outputs = ["attention", "source_tokens", "target_tokens"];

export function render(response) {
  const source = response.source_tokens.slice(0, response.source_lengths);
  const target = response.target_tokens.slice(0, response.target_lengths);
  const weights = target.map((_, at) => response.attention[at].slice(0, source.length));
  return aligned(source, target, weights, ["Source", "Target"],
    "Attention between subwords or words.");
}

export function aligned(source, target, weights, names, note) {
  if (!source.length || !target.length) return [h("p", {}, "There is nothing to align.")];
  const readout = h("p", { class: "readout", role: "status", "aria-live": "polite" },
    "Point at a word, or move to it with the Tab key.");
  const row = (at) => weights[at];
  const column = (at) => weights.map((each) => each[at]);
  const sources = choices(source.map(clean), names[0], (at) => show(at, sources, targets, column, source, target));
  const targets = choices(target.map(clean), names[1], (at) => show(at, targets, sources, row, target, source));
  function show(at, own, other, values, words, others) {
    for (const group of [own, other]) for (const button of group.children) button.style.background = "";
    if (at < 0) { readout.textContent = ""; return; }
    const shares = values(at), most = Math.max(1e-9, ...shares.map(Math.abs));
    [...other.children].forEach((button, to) => {
      button.style.background = tint(shares[to] < 0 ? "minus-back" : "plus-back", 0.7 * Math.abs(shares[to]) / most);
    });
    const best = shares.map((share, to) => [share, to]).sort((a, b) => Math.abs(b[0]) - Math.abs(a[0]))
      .slice(0, 3).filter(([share], place) => Math.abs(share) > (place ? 0.005 : 0));
    readout.textContent = `${clean(words[at])}: ` + (best.length ?
      best.map(([share, to]) => `${clean(others[to])} ${percent(share)}`).join(", ") : "nothing");
  }
  if (target.length === 1) show(0, targets, sources, row, target, source);
  return [h("h3", {}, names[0]), sources, h("h3", {}, names[1]), targets,
    h("p", { class: "faint" }, note), readout];
}
