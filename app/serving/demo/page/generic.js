// Any response, as a table of its outputs; and any request, as a form.

import { h } from "./dom.js";

const MAX_TEXT = 2000;

export const title = "Outputs";

export function render(response) {
  return [h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Outputs" },
    h("table", {}, h("tbody", {}, Object.entries(response).map(([name, value]) =>
      h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, show(value)))))))];
}

function show(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value, (_, item) =>
    typeof item === "number" && !Number.isInteger(item) ? Number(item.toPrecision(4)) : item);
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}\u2026` : text;
}

// A form for the inputs of a signature; `send` gets the row.
export function form(name, inputs, send) {
  const fields = Object.entries(inputs).map(([key, { dtype, rank }]) => {
    const id = `input-${name}-${key}`, plain = dtype === "string" && rank === 1;
    const field = h("input", { id, type: "text", autocomplete: "off" });
    const hint = plain ? dtype : rank === 1 ? `${dtype}, in JSON` : `list of ${dtype}, in JSON`;
    return { key, plain, field, element: h("div", {}, h("label", { htmlFor: id }, `${key} (${hint})`), field) };
  });
  const status = h("p", { role: "status", "aria-live": "polite" });
  return h("form", {
    onsubmit: (event) => {
      event.preventDefault();
      const row = {};
      for (const { key, plain, field } of fields) {
        try {
          row[key] = plain ? field.value : JSON.parse(field.value);
        } catch {
          status.textContent = `${key} is not JSON.`;
          return;
        }
      }
      status.textContent = "";
      send(row);
    },
  }, fields.map((each) => each.element), h("button", { type: "submit" }, "Send"), status);
}
