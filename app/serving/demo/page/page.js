// The page: a request to a model, its responses, and what the network does.

import { h } from "./dom.js";
import * as generic from "./generic.js";
import { readings } from "./heatmap.js";
import * as live from "./live.js";
import { aligned } from "./views/alignment.js";

const MAX_BYTES = 5 * 2 ** 20;
const at = (id) => document.getElementById(id);
const status = at("status");
let views = [], model = null, row = {}, image = "", current = 0, typed = null;

async function call(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  let response;
  try {
    response = await fetch(path, { ...options, cache: "no-store" });
  } catch {
    throw new Error("The server of this page does not respond; is app.demo still running?");
  }
  const content = await response.json();
  if (!response.ok) throw new Error(content.error);
  return content;
}

// The view that knows most of the outputs of a signature.
function viewOf(signature) {
  const has = (names, all) => (names || []).every((name) => all.includes(name));
  const fit = views.filter((view) => has(view.outputs, signature.outputs) &&
    has(view.inputs, Object.keys(signature.inputs)));
  fit.sort((one, other) => other.outputs.length - one.outputs.length);
  return fit[0] || generic;
}

function defaultSignature() {
  return model.signatures.serving_default ? "serving_default" : Object.keys(model.signatures)[0];
}

// Signatures that take what the default one takes, which comes first.
function shared() {
  const name = defaultSignature(), inputs = JSON.stringify(model.signatures[name].inputs);
  const others = Object.keys(model.signatures).filter((other) => other !== name &&
    JSON.stringify(model.signatures[other].inputs) === inputs);
  return [name, ...others];
}

function select(chosen) {
  model = chosen;
  current += 1;
  row = {};
  for (const button of at("models").children) {
    button.setAttribute("aria-current", String(button.textContent === model.name));
  }
  document.title = `${model.name} \u2013 models`;
  at("responses").replaceChildren();
  at("responses").removeAttribute("aria-busy");
  status.replaceChildren();
  follow();
  buildForm();
  showModel();
}

// Responds while one types, if the model reads streams.
function follow() {
  at("live").replaceChildren();
  typed = null;
  if (!live.reads(model)) return;
  const predict = (chosen, signature, values) =>
    call("/api/predict", { model: chosen.name, signature, rows: [values] });
  const followed = live.follow(model, predict, viewOf(model.signatures.feed));
  at("live").append(followed.element);
  typed = followed.change;
}

function buildForm() {
  const inputs = model.signatures[defaultSignature()].inputs, parts = [];
  const plain = Object.values(inputs).every(({ dtype, rank }) => dtype === "string" && rank === 1);
  const form = at("form");
  at("other-form")?.remove();
  if (!plain) {
    form.replaceChildren();
    form.hidden = true;
    at("request").append(h("div", { id: "other-form" },
      generic.form("default", inputs, (values) => { row = values; run(); })));
    return;
  }
  form.hidden = false;
  for (const name of Object.keys(inputs)) parts.push(name.endsWith("_bytes") ? imageField(name) : textField(name));
  parts.push(h("div", { class: "row" }, h("button", { type: "submit", class: "main" }, "Send"),
    h("span", { class: "faint" }, Object.keys(inputs).some((name) => name.endsWith("_bytes")) ? "" : "Ctrl+Enter sends")));
  if (model.examples.length) parts.push(exampleButtons());
  form.replaceChildren(...parts);
}

function textField(name) {
  const id = `field-${name}`;
  const field = h("textarea", {
    id, name, rows: 3, spellcheck: false, autocomplete: "off", maxLength: 100000, dir: "auto",
    oninput: () => { row[name] = field.value; typed?.(field.value); },
    onkeydown: (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); run(); }
    },
  });
  row[name] = "";
  return h("div", {}, h("label", { htmlFor: id }, name), field);
}

function imageField(name) {
  const preview = h("div");
  const input = h("input", {
    id: `field-${name}`, type: "file", accept: "image/jpeg,image/png",
    onchange: () => input.files.length && read(input.files[0]),
  });
  const drop = h("div", {
    class: "drop",
    ondragover: (event) => { event.preventDefault(); drop.classList.add("over"); },
    ondragleave: () => drop.classList.remove("over"),
    ondrop: (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      if (event.dataTransfer.files.length) read(event.dataTransfer.files[0]);
    },
  }, h("label", { htmlFor: input.id }, "Drop a JPEG or PNG here, or choose a file"), input, preview);
  async function read(file) {
    if (file.size > MAX_BYTES) {
      current += 1;  // the response to the previous image is not waited for
      at("responses").removeAttribute("aria-busy");
      fail(new Error(`An image has at most ${MAX_BYTES / 2 ** 20} MiB.`));
      return;
    }
    setImage(name, new Uint8Array(await file.arrayBuffer()), preview);
    run();
  }
  drop.setImage = (bytes) => setImage(name, bytes, preview);
  return h("div", { class: "image-field" }, drop);
}

function setImage(name, bytes, preview) {
  if (image) URL.revokeObjectURL(image);
  image = URL.createObjectURL(new Blob([bytes]));
  preview.replaceChildren(h("img", { src: image, alt: "The chosen image" }));
  row[name] = { b64: toBase64(bytes) };
}

function toBase64(bytes) {
  let text = "";
  for (let start = 0; start < bytes.length; start += 32768) {
    text += String.fromCharCode(...bytes.subarray(start, start + 32768));
  }
  return btoa(text);
}

const fromBase64 = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

function exampleButtons() {
  const buttons = model.examples.map((example, index) => {
    const [value] = Object.values(example);
    const content = typeof value === "string" ? value :
      h("img", { src: URL.createObjectURL(new Blob([fromBase64(value.b64)])), alt: `Example ${index + 1}` });
    return h("button", { type: "button", onclick: () => fill(example) }, content);
  });
  return h("div", {}, h("span", { class: "faint", id: "examples-title" }, "Examples"),
    h("div", { class: "row examples", role: "group", "aria-labelledby": "examples-title" }, buttons));
}

function fill(example) {
  for (const [name, value] of Object.entries(example)) {
    if (typeof value === "string") {
      at(`field-${name}`).value = value;
      row[name] = value;
      typed?.(value);
    } else {
      at("form").querySelector(".drop").setImage(fromBase64(value.b64));
    }
  }
  run();
}

function fail(error) {
  status.replaceChildren(h("span", { class: "error" }, error.message));
}

async function run() {
  const mine = ++current, request = { ...row }, names = shared(), chosen = model;
  const missing = Object.keys(model.signatures[names[0]].inputs).find((name) => request[name] === undefined);
  if (missing) { fail(new Error("Choose an image first.")); return; }
  status.textContent = "Waiting for the model\u2026";
  const cards = at("responses");
  cards.setAttribute("aria-busy", "true");
  const shown = [];
  try {
    for (const name of names) {
      const card = await respond(chosen, name, request, image);
      if (mine !== current) return;
      shown.push(card);
      cards.replaceChildren(...shown);
    }
    status.textContent = "";
    if (chosen.mayInspect) await inspect(mine, chosen, request);
  } catch (error) {
    if (mine === current) { cards.replaceChildren(...shown); fail(error); }
  } finally {
    if (mine === current) cards.removeAttribute("aria-busy");
  }
}

async function respond(chosen, name, request, url) {
  const answer = await call("/api/predict", { model: chosen.name, signature: name, rows: [request] });
  const view = viewOf(chosen.signatures[name]);
  const context = {
    row: request, image: url, signature: name,
    predict: (rows) => call("/api/predict", { model: chosen.name, signature: name, rows }),
  };
  let content;
  try {
    content = view.render(answer.rows[0], context);
  } catch {
    content = generic.render(answer.rows[0]);  // outputs of other shapes than the view expects
  }
  const version = answer.version === null ? "the latest on the server" : answer.version;
  return h("section", { class: "card response", "aria-label": name },
    h("h2", {}, view === generic ? name : view.title), content,
    h("p", { class: "meta" }, `Signature ${name}, version ${version}, ${answer.milliseconds} ms`),
    curlLine(answer.curl));
}

function curlLine(line) {
  const button = h("button", { type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(line);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Cannot copy";
    }
  } }, "Copy");
  return h("details", {}, h("summary", {}, "The same request with curl"),
    h("pre", { class: "wrap", tabIndex: 0 }, line), button);
}

async function inspect(mine, chosen, request) {
  const place = at("gates");
  place.replaceChildren(h("p", { class: "faint" }, "Computing gates\u2026"));
  try {
    const result = await call("/api/inspect", { model: chosen.name, row: request });
    if (mine !== current) return;
    at("saliency").replaceChildren(...saliency(result.saliency));
    place.replaceChildren(...(result.readings.length ? [readings(result.readings)] : []),
      ...result.notes.map((note) => h("p", { class: "faint" }, note)),
      h("p", { class: "meta" }, `Computed in ${result.milliseconds} ms`));
  } catch (error) {
    if (mine === current) place.replaceChildren(h("p", { class: "faint" }, error.message));
  }
}

function saliency(content) {
  if (!content) return [];
  return [h("section", { class: "card" }, h("h2", {}, "Saliency"),
    h("p", { class: "faint" }, `Integrated gradients of the ${content.quantity}, relative to the ` +
      "greatest of each output. Orange raises it, blue lowers it."),
    aligned(content.source, content.target, content.weights, ["Input", "Output"],
      "Contributions of the words of the input."))];
}

function showModel() {
  const parts = [h("div", { id: "saliency" })];
  at("main").classList.toggle("wide", model.mayInspect);
  at("inside").replaceChildren(...(model.mayInspect ? [h("section", { class: "card" },
    h("h2", {}, "Gates and states"),
    h("div", { id: "gates" }, h("p", { class: "faint" }, "Send a request to see them.")))] : []));
  if (model.cell) {
    parts.push(h("section", { class: "card" }, h("h2", {}, `Cell: ${model.cell.name}`),
      h("pre", { tabIndex: 0, "aria-label": "Equations of the cell" }, model.cell.equations.join("\n")),
      model.cell.note ? h("p", { class: "faint" }, model.cell.note) : null));
  }
  const same = shared();
  const others = Object.keys(model.signatures).filter((name) => !same.includes(name));
  if (others.length) parts.push(h("section", { class: "card" }, h("h2", {}, "Other signatures"), others.map(other)));
  at("rest").replaceChildren(...parts);
}

function other(name) {
  const chosen = model, place = h("div");
  return h("details", {}, h("summary", {}, name),
    generic.form(name, model.signatures[name].inputs, async (values) => {
      try {
        place.replaceChildren(await respond(chosen, name, values, ""));
      } catch (error) {
        place.replaceChildren(h("p", { class: "error" }, error.message));
      }
    }), place);
}

async function start() {
  try {
    const result = await call("/api/models");
    views = await Promise.all(result.views.map((name) => import(`/${name}`)));
    at("models").replaceChildren(...result.models.map((each) =>
      h("button", { type: "button", onclick: () => select(each) }, each.name)));
    at("form").addEventListener("submit", (event) => { event.preventDefault(); run(); });
    select(result.models[0]);
  } catch (error) {
    fail(error);
  }
}

start();
