// Pillow's antialiased bilinear filter for 8 bits (Resample.c), in its whole numbers, rows before columns: what is dropped
// is seen as `infoae classify` sees it. Pillow 13 takes the columns of some tall pictures first; levels then differ by one.
const BITS = 22; // 32 - 8 - 2

function coefficients(from, to) {
  const scale = from / to;
  const filter = Math.max(scale, 1);
  const made = [];
  for (let out = 0; out < to; out++) {
    const centre = (out + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - filter + 0.5));
    const last = Math.min(from, Math.trunc(centre + filter + 0.5));
    const weights = [];
    let sum = 0;
    for (let index = first; index < last; index++) {
      const weight = Math.max(0, 1 - Math.abs((index - centre + 0.5) * (1 / filter)));
      weights.push(weight);
      sum += weight;
    }
    made.push({ first, weights: weights.map((weight) => Math.trunc(0.5 + (weight / sum) * 2 ** BITS)) });
  }
  return made;
}

const clipped = (value) => Math.min(255, Math.max(0, Math.floor(value / 2 ** BITS)));

/** One channel of `width` x `height` bytes to another size. */
export function resize(pixels, width, height, newWidth, newHeight) {
  let rows = pixels;
  if (newWidth !== width) {
    rows = new Uint8Array(newWidth * height);
    coefficients(width, newWidth).forEach(({ first, weights }, x) => {
      for (let y = 0; y < height; y++) {
        let sum = 2 ** (BITS - 1);
        for (let index = 0; index < weights.length; index++) sum += pixels[y * width + first + index] * weights[index];
        rows[y * newWidth + x] = clipped(sum);
      }
    });
  }
  if (newHeight === height) return rows;
  const made = new Uint8Array(newWidth * newHeight);
  coefficients(height, newHeight).forEach(({ first, weights }, y) => {
    for (let x = 0; x < newWidth; x++) {
      let sum = 2 ** (BITS - 1);
      for (let index = 0; index < weights.length; index++) sum += rows[(first + index) * newWidth + x] * weights[index];
      made[y * newWidth + x] = clipped(sum);
    }
  });
  return made;
}
