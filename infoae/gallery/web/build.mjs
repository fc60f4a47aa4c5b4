// Builds ../assets from the sources here: `npm ci && npm run build`. What it writes is committed.
// ../assets/body.html is no build: it is written by hand, there alone.
import { build } from "esbuild";
import { readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const assets = "../assets";
const shared = { bundle: true, minify: true, legalComments: "none", target: "es2022", logLevel: "warning" };
await build({ ...shared, entryPoints: ["src/main.js"], outfile: `${assets}/gallery.js`, format: "esm" });
await build({ ...shared, entryPoints: ["src/style.css"], outfile: `${assets}/gallery.css` });
const wasm = readFileSync("node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm");
writeFileSync(`${assets}/onnxruntime.wasm.gz`, gzipSync(wasm, { level: 9 }));

const onnxruntime = readFileSync("src/onnxruntime-licence.txt", "utf8");
const openseadragon = readFileSync("node_modules/openseadragon/LICENSE.txt", "utf8");
const version = (name) => JSON.parse(readFileSync(`node_modules/${name}/package.json`, "utf8")).version;
writeFileSync(
  `${assets}/LICENCES.txt`,
  `OpenSeadragon ${version("openseadragon")}\n\n${openseadragon.trim()}\n\n\n` +
    `ONNX Runtime ${version("onnxruntime-web")}\n\n${onnxruntime.trim()}\n`,
);
