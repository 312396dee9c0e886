// Elements of the page. Texts only ever become text nodes, never HTML.

export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !name.includes("-")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

export const percent = (value) => (value === null ? "not a number" :
  `${value < 0 ? "\u2212" : ""}${Math.abs(100 * value).toFixed(1)} %`);

export function bars(pairs) {
  return h("div", { class: "bars" }, pairs.map(([name, value, text]) => {
    const inner = h("div");
    inner.style.width = `${100 * Math.max(0, Math.min(1, value))}%`;
    return [h("span", {}, name), h("div", { class: "bar", "aria-hidden": "true" }, inner),
      h("span", {}, text || percent(value))];
  }));
}

export function table(head, rows) {
  return h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Table" },
    h("table", {},
      h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col" }, String(name))))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, String(cell))))))));
}

// Words of which one is selected by pointer or keyboard; `select` gets its index, or -1.
export function choices(words, label, select) {
  let fixed = -1;
  const buttons = words.map((word, index) => h("button", {
    type: "button", "aria-pressed": "false",
    onclick: () => { fixed = fixed === index ? -1 : index; show(fixed); },
    onpointerenter: () => show(index),
    onpointerleave: () => show(fixed),
    onfocus: () => show(index),
    onblur: () => show(fixed),
  }, word));
  function show(index) {
    buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(at === index)));
    select(index);
  }
  return h("p", { class: "words", role: "group", "aria-label": label, dir: "auto" }, buttons);
}

// A colour of the sheet, as far as it is mixed into the background.
export const tint = (name, share) =>
  `color-mix(in srgb, var(--${name}) ${Math.round(100 * Math.max(0, Math.min(1, share)))}%, transparent)`;

export const clean = (piece) => piece.replace(/\u2581/g, "\u00a0").trim() || "\u00b7";
