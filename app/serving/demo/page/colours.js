// Colour scales: cividis for values from 0 to 1, and blue to orange for signed values. Both are
// perceptually ordered and distinct for colour-blind people.

const CIVIDIS = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74",
  "#c3b369", "#e1cc55", "#fee838"];
const SIGNED = ["#0a4a86", "#3a7fb8", "#86b6d8", "#cfe1ee", "#f7f7f7", "#f6d9bd", "#eeab76",
  "#d1701f", "#8f4400"];

const parse = (hex) => [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
const scale = (anchors) => {
  const colours = anchors.map(parse);
  return (value) => {
    const at = Math.max(0, Math.min(1, value)) * (colours.length - 1);
    const low = Math.min(Math.floor(at), colours.length - 2);
    return colours[low].map((part, channel) =>
      Math.round(part + (at - low) * (colours[low + 1][channel] - part)));
  };
};

export const gateColour = scale(CIVIDIS);
const signedColour = scale(SIGNED);
// From -greatest (blue) to greatest (orange).
export const stateColour = (greatest) => (value) => signedColour(0.5 + (0.5 * value) / greatest);
export const css = (colour) => `rgb(${colour.join(",")})`;
