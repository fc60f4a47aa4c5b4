import * as ort from "onnxruntime-web/wasm";
import { data } from "./data.js";
import { bytesOf } from "./dom.js";
import { resize } from "./resize.js";

let session = null;

export const canClassify = "image" in data;

async function opened() {
  const packed = new Blob([bytesOf("wasm")]).stream().pipeThrough(new DecompressionStream("gzip"));
  ort.env.wasm.wasmBinary = await new Response(packed).arrayBuffer();
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.proxy = false;
  return ort.InferenceSession.create(bytesOf("classifier"), { executionProviders: ["wasm"] });
}

/** Planes of a picture file, as `infoae classify` makes them: (channels, height, width) bytes. */
async function planes(file) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#000"; // seen through transparency, as there
  context.fillRect(0, 0, bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  const { data: rgba, width, height } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const size = width * height;
  const colours = [0, 1, 2].map((channel) => {
    const plane = new Uint8Array(size);
    for (let index = 0; index < size; index++) plane[index] = rgba[4 * index + channel];
    return plane;
  });
  const { channels, height: newHeight, width: newWidth } = data.image;
  const wanted = channels === 1 ? [luma(...colours)] : colours;
  return wanted.map((plane) => resize(plane, width, height, newWidth, newHeight));
}

/** ITU-R 601 in Pillow's whole numbers. */
function luma(red, green, blue) {
  return red.map((value, index) => (value * 19595 + green[index] * 38470 + blue[index] * 7471 + 0x8000) >> 16);
}

/** Probabilities of all categories for a picture file, and the picture as a canvas. */
export async function classify(file) {
  const found = await planes(file).catch(() => {
    throw new Error("this browser cannot read it as a picture");
  });
  session ??= opened();
  const ready = await session;
  const { channels, height, width } = data.image;
  const pixels = new Uint8Array(channels * height * width);
  found.forEach((plane, channel) => pixels.set(plane, channel * height * width));
  const answers = await ready.run({ images: new ort.Tensor("uint8", pixels, [1, channels, height, width]) });
  return { probabilities: answers.probabilities.data, picture: drawn(found, width, height) };
}

function drawn(found, width, height) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height, className: "seen" });
  const image = new ImageData(width, height);
  for (let index = 0; index < width * height; index++) {
    for (let channel = 0; channel < 3; channel++) image.data[4 * index + channel] = (found[channel] ?? found[0])[index];
    image.data[4 * index + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
