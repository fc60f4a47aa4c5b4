import { canClassify, classify } from "./classify.js";
import * as corrections from "./corrections.js";
import { colour, count, data, number, pictures } from "./data.js";
import { close, showDropped, showProblem } from "./detail.js";
import { byId, element } from "./dom.js";
import { found, move, wall } from "./grid.js";
import { map } from "./map.js";
import { rows } from "./rows.js";

const VIEWS = ["categories", "map", "pictures"];

function show(view) {
  for (const each of VIEWS) byId(each).hidden = each !== view;
  for (const button of document.querySelectorAll("nav button")) {
    button.setAttribute("aria-current", button.dataset.view === view ? "page" : "false");
  }
  document.body.dataset.view = view;
  if (view === "map") map();
}

function showAll(category) {
  const indices = [];
  for (let index = 0; index < count; index++) if (data.categories[index][0] === category) indices.push(index);
  wall(byId("pictures"), `${corrections.nameOf(category)}: ${pictures(indices.length)}`, indices);
  show("pictures");
  scrollTo(0, 0);
}

function search() {
  const text = byId("search").value.trim();
  if (!text) return show("categories");
  const matches = found(text);
  wall(byId("pictures"), `${number(matches.length)} of ${number(count)} paths hold “${text}”`, matches);
  return show("pictures");
}

function legend() {
  byId("legend").replaceChildren(
    ...data.rows.map(({ category }) => {
      const dot = element("span", { className: "swatch" });
      dot.style.setProperty("--colour", colour(category));
      return element("li", {}, dot, corrections.nameOf(category));
    }),
  );
}

function changes() {
  const size = corrections.size();
  byId("changes").textContent = size === 0 ? "" : size === 1 ? "1 correction" : `${number(size)} corrections`;
  byId("download").disabled = size === 0;
  byId("save").disabled = size === 0;
  byId("undo").disabled = !corrections.canUndo();
  byId("marked").hidden = corrections.spokenOf().size === 0;
  legend();
}

function showMarked() {
  const paths = corrections.spokenOf();
  const indices = [...data.paths.keys()].filter((index) => paths.has(data.paths[index]));
  wall(byId("pictures"), `${number(indices.length)} of ${number(paths.size)} marked pictures are on this page`, indices);
  show("pictures");
}

async function load(file) {
  try {
    corrections.load(await file.text());
    close();
    const elsewhere = [...corrections.spokenOf()].filter((path) => !data.paths.includes(path)).length;
    byId("changes").textContent += ` from ${file.name}${elsewhere ? `, ${number(elsewhere)} of pictures that are not on this page` : ""}`;
  } catch (error) {
    showProblem("Not loaded", file.name, error.message);
  }
}

async function save() {
  try {
    if (await corrections.save()) byId("changes").textContent = "saved";
  } catch (error) {
    showProblem("Not saved", "corrections.json", error.message);
  }
}

async function drop(file) {
  if (file.type === "application/json" || file.name.toLowerCase().endsWith(".json")) return load(file);
  try {
    if (!canClassify) throw new Error("this page has no bundle: infoae export, and then infoae gallery again");
    const { probabilities, picture } = await classify(file);
    showDropped(file.name, picture, probabilities);
  } catch (error) {
    showProblem("Not classified", file.name, error.message);
  }
  return undefined;
}

/** A button that asks for a file, and the field that it opens. */
function chooser(id, label, accept, take) {
  const choose = element("input", { type: "file", accept, id, className: "hidden", tabIndex: -1 });
  choose.addEventListener("change", () => {
    if (choose.files.length) take(choose.files[0]);
    choose.value = ""; // or the same file could not be chosen again
  });
  const button = element("button", { type: "button", textContent: label });
  button.addEventListener("click", () => choose.click());
  return [button, choose];
}

function prepareDrops() {
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    byId("drop").hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) byId("drop").hidden = true;
  });
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    byId("drop").hidden = true;
    if (event.dataTransfer.files.length) drop(event.dataTransfer.files[0]);
  });
  if (canClassify) byId("undo").before(...chooser("choose", "Classify a picture …", "image/*", drop));
  byId("undo").after(...chooser("load", "Load corrections …", ".json,application/json", load));
}

function keys(event) {
  const typing = event.target.matches?.("input, select, textarea");
  if (event.key === "Escape") close();
  else if (event.key === "z" && (event.ctrlKey || event.metaKey) && !typing) {
    event.preventDefault();
    corrections.undo();
  } else if (event.key === "/" && !typing) {
    event.preventDefault();
    byId("search").focus();
  } else move(event);
}

const HELP = [
  "Typical pictures have the smallest angle from the mean latent of their category, outliers the largest.",
  "Doubtful ones are those whose answer is least more probable than the next category.",
  "The map puts pictures with like latents together; zoom in for more of them. Frames have the category’s colour.",
  "Keys: Tab to a row, arrows between pictures, Enter opens one, Esc closes it, / searches, Ctrl+Z takes the last correction back. On the map arrows move, + and - zoom, 0 shows all.",
  "Names, merges, splits and marks are kept by this browser. Download corrections.json for infoae correct.",
  "A corrections.json that is loaded, or dropped on the page, replaces them; Undo brings them back.",
];

byId("title").textContent = data.run;
document.title = `${data.run} – infoae gallery`;
byId("subtitle").textContent = `${pictures(count)} in ${number(data.rows.filter((row) => row.size).length)} categories · ${data.origin}`;
byId("hint").textContent = canClassify ? "Drop a picture anywhere to classify it: nothing leaves this machine." : "";
byId("help").append(...HELP.map((text) => element("p", { textContent: text })));
byId("licence-text").textContent = byId("licences").textContent;
rows(byId("categories"), showAll);
for (const button of document.querySelectorAll("nav button")) button.addEventListener("click", () => show(button.dataset.view));
byId("search").addEventListener("input", search);
byId("download").addEventListener("click", corrections.download);
byId("save").hidden = !corrections.canSave;
byId("save").addEventListener("click", save);
byId("undo").addEventListener("click", corrections.undo);
byId("marked").addEventListener("click", showMarked);
addEventListener("keydown", keys);
prepareDrops();
corrections.onChange(changes);
changes();
show("categories");
