import OpenSeadragon from "openseadragon";
import { colour, count, data, placeIn, sheetImage } from "./data.js";
import { byId } from "./dom.js";
import { open } from "./detail.js";

const TILE = 512;
const { places, levels, num_levels: numLevels, cells, grid } = data.map;
const CELL = TILE / cells;
const BORDER = 2;

const shownAt = new Map();

/** The picture in each cell of a level, by row * columns + column. */
function pictures(level) {
  if (!shownAt.has(level)) {
    const side = cells * 2 ** level;
    const found = new Map();
    for (let index = 0; index < count; index++) {
      if (levels[index] > level) continue;
      const [column, row] = places[index].map((each) => Math.min(side - 1, Math.floor((each / grid) * side)));
      if (!found.has(row * side + column)) found.set(row * side + column, index);
    }
    shownAt.set(level, found);
  }
  return shownAt.get(level);
}

function at(level, column, row) {
  return pictures(level).get(row * cells * 2 ** level + column);
}

async function draw(level, x, y) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = TILE;
  const context = canvas.getContext("2d");
  const drawn = [];
  for (let row = 0; row < cells; row++) {
    for (let column = 0; column < cells; column++) {
      const index = at(level, x * cells + column, y * cells + row);
      if (index !== undefined) drawn.push([index, column, row]);
    }
  }
  const size = CELL - 2 * BORDER - 2;
  await Promise.all(
    drawn.map(async ([index, column, row]) => {
      const { sheet, column: left, row: top, side } = placeIn("thumbnails", index);
      const image = await sheetImage(sheet);
      context.fillStyle = colour(data.categories[index][0]);
      context.fillRect(column * CELL + 1, row * CELL + 1, CELL - 2, CELL - 2);
      context.fillStyle = "#222";
      context.fillRect(column * CELL + 1 + BORDER, row * CELL + 1 + BORDER, size, size);
      context.imageSmoothingEnabled = side > CELL;
      context.drawImage(image, left * side, top * side, side, side, column * CELL + 1 + BORDER, row * CELL + 1 + BORDER, size, size);
    }),
  );
  return context;
}

function source() {
  return {
    width: TILE * 2 ** (numLevels - 1),
    height: TILE * 2 ** (numLevels - 1),
    tileSize: TILE,
    minLevel: 0,
    maxLevel: numLevels - 1,
    getLevelScale: (level) => 2 ** (level - numLevels + 1),
    getNumTiles: (level) => new OpenSeadragon.Point(2 ** level, 2 ** level),
    getTileUrl: (level, x, y) => `map/${level}/${x}/${y}`,
    getTilePostData: (level, x, y) => ({ level, x, y }),
    hasTransparency: () => true,
    downloadTileStart: (job) => {
      const { level, x, y } = job.postData;
      draw(level, x, y).then((context) => job.finish(context, null, "context2d"), (error) => job.fail(String(error), null));
    },
    downloadTileAbort: () => {},
  };
}

let viewer = null;

/** The map, made when it is first looked at. */
export function map() {
  if (viewer) return viewer;
  viewer = OpenSeadragon({
    element: byId("viewer"),
    tileSources: source(),
    drawer: "canvas", // pictures from the folder beside the page may not become textures of WebGL
    showNavigationControl: false,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    maxZoomPixelRatio: 2,
    visibilityRatio: 0.5,
    animationTime: 0.6,
    imageLoaderLimit: 4,
  });
  viewer.canvas.setAttribute("aria-label", "Map of the pictures: arrow keys move, + and - zoom, 0 shows all");
  viewer.addHandler("canvas-click", (event) => {
    if (!event.quick) return;
    const index = under(viewer.viewport.pointFromPixel(event.position));
    if (index !== undefined) open(index);
  });
  return viewer;
}

/** The picture that is drawn at a point of the map, of the finest tile there. */
function under(point) {
  const tiles = viewer.world.getItemAt(0).getTilesToDraw().map((each) => each.tile);
  const hit = tiles.filter((tile) => tile.loaded && tile.bounds.containsPoint(point));
  hit.sort((one, other) => other.level - one.level);
  for (const { level } of hit) {
    const side = cells * 2 ** level;
    const found = at(level, Math.floor(point.x * side), Math.floor(point.y * side));
    if (found !== undefined) return found;
  }
  return undefined;
}
