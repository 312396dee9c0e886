// The response to a text while one types. A request has only the text that is new, and the state
// that the response before returned. A text that was changed before its end is read from its start.

import { h } from "./dom.js";

const MAX_PIECE = 4000;  // UTF-16 units: fewer bytes than a request reads
const BETWEEN = 250, PAUSE = 500;  // milliseconds between requests, and until a text counts as ended
const CARRIED = ["state", "valid", "bytes_read"];

// Whether a model reads streams, and responds before their end.
export function reads(model) {
  const { start, feed, finish } = model.signatures;
  return Boolean(start && finish && feed?.inputs.state && feed.inputs.text &&
    feed.outputs.some((name) => !CARRIED.includes(name)));
}

// Returns the element with the response, and a function that gets the text after each change.
export function follow(model, predict, view) {
  const words = h("div", { "aria-live": "off" }), message = h("p", { role: "status", class: "error" });
  const element = h("section", { class: "card live", "aria-label": "While you type" },
    h("h2", {}, "While you type"), words, message,
    h("p", { class: "faint" }, "Each request has only the new text and the state of the text before it."));
  element.hidden = true;
  let initial = null, state = null, text = "", read = "", soFar = {}, isBusy = false, timer = 0;

  async function request(signature, row) {
    const [response] = (await predict(model, signature, row)).rows;
    if (response.valid === false) throw new Error("The state of the text is not valid; type again.");
    return response;
  }

  function show(last) {
    const response = joined(soFar, last);
    words.replaceChildren(...(Object.keys(response).length ? view.render(response, { row: {} }) : []));
    element.hidden = !text;
  }

  async function readNext() {
    if (!text.startsWith(read) || state === null) {
      initial ??= (await request("start", { batch: 0 })).state;
      [state, read, soFar] = [initial, "", {}];
    }
    const piece = upTo(text.slice(read.length), MAX_PIECE);
    const response = await request("feed", { state, text: piece });
    state = response.state;
    read += piece;
    soFar = joined(soFar, response);
    show({});
  }

  async function update() {
    if (isBusy) return;
    isBusy = true;
    message.textContent = "";
    try {
      while (text !== read && element.isConnected) {
        await readNext();
        await new Promise((done) => { setTimeout(done, BETWEEN); });
      }
    } catch (error) {
      [state, read, soFar] = [null, "", {}];
      element.hidden = false;
      message.textContent = error.message;
    } finally {
      isBusy = false;
    }
  }

  // What the response would be if the text ended here; the state remains that of the text so far.
  async function end() {
    const ended = text;
    if (isBusy || state === null || text !== read || !element.isConnected) return;
    try {
      const rest = await request("finish", { state });
      if (text === ended) show(rest);
    } catch (error) {
      message.textContent = error.message;
    }
  }

  return { element, change(value) {
    text = value;
    clearTimeout(timer);
    if (!text) show({});
    update().then(() => { clearTimeout(timer); timer = setTimeout(end, PAUSE); });
  } };
}

// Outputs by token follow those before; others replace them.
function joined(before, response) {
  const outputs = Object.entries(response).filter(([name]) => !CARRIED.includes(name));
  if (!("lengths" in response)) return { ...before, ...Object.fromEntries(outputs) };
  return Object.fromEntries(outputs.map(([name, value]) => [name, Array.isArray(value)
    ? [...(before[name] || []), ...value.slice(0, response.lengths)]
    : (before[name] || 0) + value]));
}

// The first units of a text, without half of a character.
function upTo(text, count) {
  const last = text.charCodeAt(count - 1);
  return text.slice(0, last >= 0xd800 && last < 0xdc00 ? count - 1 : count);
}
