// Where in an image each subword of a caption attends to.

import { choices, clean, h } from "../dom.js";

export const title = "Attention";
export const outputs = ["attention", "caption", "tokens"];
export const inputs = ["image_bytes"];

export function render(response, context) {
  if (response.valid === false) return [h("p", {}, "This is not an image that the model reads.")];
  const tokens = response.tokens.slice(0, response.lengths);
  if (!tokens.length) return [h("p", {}, "The caption is empty.")];
  const canvas = h("canvas", { "aria-hidden": "true" });
  const image = h("img", { src: context.image, alt: "The image of the request" });
  const readout = h("p", { class: "readout", role: "status", "aria-live": "polite" },
    "Point at a word, or move to it with the Tab key.");
  const words = choices(tokens.map(clean), "Words of the caption", (at) => {
    if (at < 0) { canvas.width = canvas.width; readout.textContent = ""; return; }
    const grid = response.attention[at];
    draw(canvas, grid);
    readout.textContent = `${clean(tokens[at])}: ${place(grid)}`;
  });
  return [words, h("div", { class: "stack" }, image, canvas), readout];
}

// What is not attended to is dimmed, and a line surrounds what is, so that it shows on every image.
function draw(canvas, grid) {
  const height = grid.length, width = grid[0].length;
  const size = Math.max(16, Math.round(352 / width));
  const most = Math.max(1e-9, ...grid.flat());
  canvas.width = width * size;
  canvas.height = height * size;
  const context = canvas.getContext("2d");
  grid.forEach((row, y) => row.forEach((weight, x) => {
    const share = weight / most;
    context.fillStyle = `rgba(10, 14, 20, ${0.78 * (1 - share)})`;
    context.fillRect(x * size, y * size, size, size);
    if (share > 0.5) {
      context.lineWidth = 4;
      context.strokeStyle = "#000";
      context.strokeRect(x * size + 2, y * size + 2, size - 4, size - 4);
      context.lineWidth = 2;
      context.strokeStyle = "#ffd84d";
      context.strokeRect(x * size + 2, y * size + 2, size - 4, size - 4);
    }
  }));
}

function place(grid) {
  let best = [0, 0];
  grid.forEach((row, y) => row.forEach((weight, x) => {
    if (weight > grid[best[0]][best[1]]) best = [y, x];
  }));
  const share = (100 * grid[best[0]][best[1]]).toFixed(0);
  if (grid.length === 1 && grid[0].length === 1) return "the whole image (no attention)";
  return `most at row ${best[0] + 1} of ${grid.length}, column ${best[1] + 1} of ${grid[0].length} (${share} %)`;
}
