// One colour scale, from blue over white to orange. It is perceptually ordered, and both sides are
// distinct for colour-blind people.

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

const signedColour = scale(SIGNED);
// From -greatest (blue) to greatest (orange).
export const stateColour = (greatest) => (value) => signedColour(0.5 + (0.5 * value) / greatest);
// From 0.5 - half (blue) to 0.5 + half (orange).
export const gateColour = (half) => (value) => signedColour(0.5 + (0.5 * (value - 0.5)) / half);
export const css = (colour) => `rgb(${colour.join(",")})`;
