// A number, and what each word contributes to it.

import { h } from "../dom.js";
import { contributions } from "./classification.js";

export const title = "Number";
export const outputs = ["value"];

const format = (value) => (value === null ? "not a number" : value.toPrecision(4));

export function render(response, context) {
  const parts = [h("p", { class: "large" }, format(response.value))];
  if (typeof context.row.text === "string" && context.row.text.trim()) {
    parts.push(contributions(context, (row) => row.value, "a greater number", format));
  }
  return parts;
}
