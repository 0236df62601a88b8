// The resize of Pillow (BILINEAR, antialiased), which training and Python use: the same integers in, the same out, but
// for tall images, where some versions of Pillow begin with the other axis: then some differ by 1.

const BITS = 22;  // of the fixed-point weights

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

// read(top, count): some rows, at most `rows` of them, as opaque RGBA. Gives RGB of side x side, row after row.
export function resizeToSquare(read, rows, width, height, side) {
  const across = weights(width, side), down = weights(height, side), half = 2 ** (BITS - 1);
  const narrow = new Uint8Array(height * side * 3), square = new Uint8Array(side * side * 3), row = 3 * side;
  for (let top = 0, to = 0; top < height; top += rows) {
    const count = Math.min(rows, height - top), pixels = read(top, count);
    for (let y = 0; y < count; y++) {
      for (const { first, shares } of across) {
        let r = half, g = half, b = half;
        for (let n = 0, from = 4 * (y * width + first); n < shares.length; n++, from += 4) {
          r += pixels[from] * shares[n]; g += pixels[from + 1] * shares[n]; b += pixels[from + 2] * shares[n];
        }
        narrow[to++] = r >> BITS; narrow[to++] = g >> BITS; narrow[to++] = b >> BITS;
      }
    }
  }
  for (let y = 0; y < side; y++) {
    const { first, shares } = down[y];
    for (let x = 0; x < row; x++) {
      let sum = half;
      for (let n = 0, from = first * row + x; n < shares.length; n++, from += row) sum += narrow[from] * shares[n];
      square[y * row + x] = sum >> BITS;
    }
  }
  return square;
}
