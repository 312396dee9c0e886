// Gates and states along a text: a heat map for each, with a row for each unit.

import { css, gateColour, stateColour } from "./colours.js";
import { clean, h, table } from "./dom.js";

const MIN_STEP = 26, MAX_STEP = 44, WIDTH = 500;  // pixels of a step, and of a short text
const MAX_HEIGHT = 120, MIN_ROW = 3, MAX_LABEL = 12;
const FONT = "13px system-ui, sans-serif";

const dark = window.matchMedia("(prefers-color-scheme: dark)");

export function readings(all) {
  const place = h("div");
  const select = h("select", { id: "reading", onchange: () => show(Number(select.value)) },
    all.map((reading, index) => h("option", { value: String(index) }, reading.name)));
  function show(index) { place.replaceChildren(reading(all[index])); }
  // The longest one over the text, not over the characters of a word.
  const steps = all.map((each) => (each.name.startsWith("characters of ") ? 0 : each.steps.length));
  select.value = String(steps.indexOf(Math.max(...steps)));
  show(Number(select.value));
  return h("div", {}, h("label", { htmlFor: "reading" }, "Cell"), select, place);
}

function reading(content) {
  const readout = h("p", { class: "readout", role: "status", "aria-live": "polite" },
    "Point at a value, or use the arrow keys.");
  const state = { map: 0, step: 0, unit: 0 };
  const width = Math.max(MIN_STEP, Math.min(MAX_STEP, Math.floor(WIDTH / content.steps.length)));
  const drawings = content.maps.map((map) => drawing(map, content.steps, width));
  const labels = labelCanvas(content.steps, width);
  const area = h("div", { class: "maps" });
  function mark(map, step, unit) {
    Object.assign(state, { map, step, unit });
    drawings.forEach((each, at) => each.draw(step, at === map ? unit : -1));
    labels.draw(step);
    const shown = content.maps[map], value = shown.values[step][unit];
    readout.textContent = `${shown.title}, step ${step + 1} (${clean(content.steps[step])}), ` +
      `unit ${shown.units[unit]}: ${number(value)}; mean of all units ${number(shown.mean[step])}`;
  }
  drawings.forEach((each, at) => {
    each.canvas.addEventListener("pointermove", (event) => {
      const { step, unit } = each.at(event);
      mark(at, step, unit);
    });
    each.canvas.addEventListener("pointerdown", (event) => {
      const { step, unit } = each.at(event);
      mark(at, step, unit);
    });
    each.canvas.addEventListener("focus", () => mark(at, state.step,
      Math.min(state.unit, content.maps[at].units.length - 1)));
    each.canvas.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const move = moves[event.key];
      if (!move) return;
      event.preventDefault();
      const limit = (value, count) => Math.max(0, Math.min(count - 1, value));
      mark(at, limit(state.step + move[0], content.steps.length),
        limit(state.unit + move[1], content.maps[at].units.length));
      area.scrollLeft = Math.max(0, (state.step + 1) * width - area.clientWidth / 2);
    });
  });
  content.maps.forEach((map, at) => area.append(
    h("h3", {}, `${map.title} (${description(map)})`), drawings[at].canvas));
  area.append(labels.canvas);
  drawings.forEach((each) => each.draw(-1, -1));
  labels.draw(-1);
  dark.onchange = () => labels.draw(-1);
  const more = content.of > content.steps.length ?
    h("p", { class: "faint" }, `The first ${content.steps.length} of ${content.of} steps.`) : null;
  const means = h("details", {}, h("summary", {}, "Means over units as a table"),
    table(["step", ...content.maps.map((map) => map.title)], content.steps.map((step, at) =>
      [clean(step), ...content.maps.map((map) => number(map.mean[at]))])));
  return h("div", {}, scales(content.maps), readout, area, more, means);
}

const number = (value) => (value === null ? "not a number" : value.toFixed(2));

function greatest(map) {
  return Math.max(1e-6, ...map.values.flat().map((value) => Math.abs(value || 0)));
}

// Half the range of the scale of a gate: the narrowest that covers nearly all of its values.
function halfWidth(map) {
  const distances = map.values.flat().filter((value) => value !== null)
    .map((value) => Math.abs(value - 0.5)).sort((one, other) => one - other);
  const needed = distances[Math.floor(0.98 * (distances.length - 1))] || 0;
  return [0.05, 0.1, 0.25].find((half) => needed <= half) || 0.5;
}

// The units that are shown, and the range of the colours of a gate.
function description(map) {
  const units = map.units.length < map.of ? `${map.units.length} of ${map.of} units` :
    `${map.of} units`;
  if (!map.isGate) return units;
  const half = halfWidth(map);
  return `${units}, colours from ${number(0.5 - half)} to ${number(0.5 + half)}`;
}

function drawing(map, steps, width) {
  const rows = map.units.length;
  const row = Math.max(MIN_ROW, Math.min(8, Math.floor(MAX_HEIGHT / rows)));
  const colour = map.isGate ? gateColour(halfWidth(map)) : stateColour(greatest(map));
  const canvas = sized(h("canvas", {
    tabIndex: 0, role: "application", "aria-roledescription": "heat map",
    "aria-label": `${map.title}: ${steps.length} steps, ${rows} units; arrow keys move`,
  }), steps.length * width, rows * row);
  const context = canvas.getContext("2d");
  // The values are painted once; a mark is drawn over them.
  const base = sized(h("canvas"), steps.length * width, rows * row);
  const paint = base.getContext("2d");
  map.values.forEach((units, x) => units.forEach((value, y) => {
    paint.fillStyle = value === null ? "#888" : css(colour(value));
    paint.fillRect(x * width, y * row, width - 1, row);
  }));
  return {
    canvas,
    at(event) {
      const box = canvas.getBoundingClientRect();
      const find = (value, size, count) => Math.max(0, Math.min(count - 1, Math.floor(value / size)));
      return { step: find(event.clientX - box.left, width, steps.length),
        unit: find(event.clientY - box.top, row, rows) };
    },
    draw(step, unit) {
      context.clearRect(0, 0, steps.length * width, rows * row);
      context.drawImage(base, 0, 0, steps.length * width, rows * row);
      if (step >= 0) outline(context, step * width, 0, width - 1, rows * row);
      if (unit >= 0) outline(context, step * width, unit * row, width - 1, row);
    },
  };
}

function outline(context, x, y, width, height) {
  context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--focus");
  context.lineWidth = 2;
  context.strokeRect(x + 1, y + 1, width - 2, Math.max(1, height - 2));
}

function labelCanvas(steps, width) {
  const texts = steps.map(clean).map((text) => [...text]).map((characters) =>
    (characters.length > MAX_LABEL ? [...characters.slice(0, MAX_LABEL - 1), "\u2026"] : characters)
      .join(""));
  const measure = h("canvas").getContext("2d");
  measure.font = `bold ${FONT}`;
  const height = 12 + Math.ceil(Math.max(...texts.map((text) => measure.measureText(text).width)));
  const canvas = sized(h("canvas", { "aria-hidden": "true" }), steps.length * width, height);
  const context = canvas.getContext("2d");
  return {
    canvas,
    draw(marked) {
      const style = getComputedStyle(document.documentElement);
      context.clearRect(0, 0, steps.length * width, height);
      texts.forEach((text, at) => {
        context.save();
        context.translate(at * width + width / 2 + 4, height - 2);
        context.rotate(-Math.PI / 2);
        context.textAlign = "right";
        context.fillStyle = style.getPropertyValue(at === marked ? "--focus" : "--text");
        context.font = `${at === marked ? "bold " : ""}${FONT}`;
        context.fillText(text, height - 6, 0);
        context.restore();
      });
    },
  };
}

function sized(canvas, width, height) {
  const ratio = Math.min(3, window.devicePixelRatio || 1);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  canvas.getContext("2d").scale(ratio, ratio);
  return canvas;
}

function scales(maps) {
  const parts = [];
  if (maps.some((map) => map.isGate)) parts.push(scale("closed", gateColour(0.5), "open (gates)"));
  if (maps.some((map) => !map.isGate)) {
    parts.push(scale("\u2212", (x) => stateColour(1)(2 * x - 1), "+ (candidate and states)"));
  }
  return h("div", { class: "row" }, parts);
}

function scale(low, colour, high) {
  const canvas = h("canvas", { width: 64, height: 1, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  for (let x = 0; x < 64; x += 1) {
    context.fillStyle = css(colour(x / 63));
    context.fillRect(x, 0, 1, 1);
  }
  return h("span", { class: "scale" }, low, canvas, high);
}
