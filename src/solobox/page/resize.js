// The resize of Pillow (BILINEAR, antialiased), which training and Python use: the same integers in, the same out.

const BITS = 22, HALF = 2 ** (BITS - 1);  // of the fixed-point weights

// The weights of one axis: for each of `side` outputs the first input, and the whole-number weights from there on.
function weights(length, side) {
  const scale = length / side, support = Math.max(1, scale), inverse = 1 / support;
  return Array.from({ length: side }, (_, at) => {
    const center = (at + .5) * scale;
    const first = Math.max(0, Math.trunc(center - support + .5)), last = Math.min(length, Math.trunc(center + support + .5));
    const shares = Array.from({ length: last - first }, (_, n) => Math.max(0, 1 - Math.abs((n + first - center + .5) * inverse)));
    const sum = shares.reduce((before, share) => before + share, 0);
    return { first, shares: Int32Array.from(shares, (share) => Math.trunc(share / sum * (1 << BITS) + .5)) };
  });
}

// Resize the rows or the columns of RGB to `side`, rounded to 8 bits. lines: how many of them. Of each line the inputs are
// `step` apart and the outputs too; the next line begins `from` inputs and `to` outputs further.
function pass(source, length, lines, side, { step, from, outStep, to }) {
  const result = new Uint8Array(3 * lines * side), table = weights(length, side);
  for (let line = 0; line < lines; line++) {
    for (let at = 0; at < side; at++) {
      const { first, shares } = table[at];
      let r = HALF, g = HALF, b = HALF;
      for (let n = 0, i = line * from + first * step; n < shares.length; n++, i += step) {
        r += source[i] * shares[n]; g += source[i + 1] * shares[n]; b += source[i + 2] * shares[n];
      }
      const o = line * to + at * outStep;
      result[o] = r >> BITS; result[o + 1] = g >> BITS; result[o + 2] = b >> BITS;
    }
  }
  return result;
}
const across = (source, width, height, side) => pass(source, width, height, side, { step: 3, from: 3 * width, outStep: 3, to: 3 * side });
const down = (source, width, height, side) => pass(source, height, width, side, { step: 3 * width, from: 3, outStep: 3 * width, to: 3 });

// pixels: RGB of width x height, row after row. Gives that of side x side.
export function resizeToSquare(pixels, width, height, side) {
  // The order in which Pillow 13 does it; the first rounding makes a difference.
  if (height + side > 2 * Math.max(side, width)) return across(down(pixels, width, height, side), width, side, side);
  return down(across(pixels, width, height, side), side, height, side);
}
