import { byId, bytesOf } from "./dom.js";

export const data = JSON.parse(byId("data").textContent);
export const count = data.paths.length;

/** Colour of a category: neighbours in number are far apart on the wheel. */
export const colour = (category) => `hsl(${(category * 137.5 + 212) % 360} 62% 52%)`;

export const percent = (share) => `${(100 * share).toFixed(share > 0.9995 || share < 0.0005 ? 0 : 1)} %`;
export const number = (value) => value.toLocaleString("en");
export const pictures = (value) => `${number(value)} ${value === 1 ? "picture" : "pictures"}`;

const urls = new Map();

/** Address of a sheet of thumbnails or reconstructions, in the page itself or in the folder beside it. */
function urlOf(kind, sheet) {
  const key = `${kind}-${sheet}`;
  if (!urls.has(key)) {
    const file = data[kind].files[sheet];
    urls.set(key, file === null ? URL.createObjectURL(new Blob([bytesOf(key)], { type: "image/webp" })) : encodeURI(file));
  }
  return urls.get(key);
}

/** Where a picture lies in its sheet. */
export function placeIn(kind, index) {
  const { columns, side } = data[kind];
  const inside = index % (columns * columns);
  return { sheet: (index - inside) / (columns * columns), column: inside % columns, row: Math.floor(inside / columns), side };
}

/** Show a picture of a sheet as the background of an element of `size` pixels. */
export function paint(target, kind, index, size) {
  const { sheet, column, row, side } = placeIn(kind, index);
  const { columns } = data[kind];
  target.style.backgroundImage = `url("${urlOf(kind, sheet)}")`;
  target.style.backgroundSize = `${columns * size}px auto`;
  target.style.backgroundPosition = `-${column * size}px -${row * size}px`;
  if (side < size) target.style.imageRendering = "pixelated";
}

const loading = new Map();

/** The image of a sheet of thumbnails, once it is decoded. */
export function sheetImage(sheet) {
  if (!loading.has(sheet)) {
    const image = new Image();
    image.src = urlOf("thumbnails", sheet);
    loading.set(sheet, image.decode().then(() => image));
  }
  return loading.get(sheet);
}
