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
  legend();
}

async function drop(file) {
  try {
    if (!canClassify) throw new Error("this page has no bundle: infoae export, and then infoae gallery again");
    const { probabilities, picture } = await classify(file);
    showDropped(file.name, picture, probabilities);
  } catch (error) {
    showProblem(file.name, error.message);
  }
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
  if (!canClassify) return;
  const choose = element("input", { type: "file", accept: "image/*", id: "choose", className: "hidden", tabIndex: -1 });
  choose.addEventListener("change", () => choose.files.length && drop(choose.files[0]));
  const button = element("button", { type: "button", textContent: "Classify a picture …" });
  button.addEventListener("click", () => choose.click());
  byId("download").before(button, choose);
}

function keys(event) {
  const typing = event.target.matches?.("input, select, textarea");
  if (event.key === "Escape") close();
  else if (event.key === "/" && !typing) {
    event.preventDefault();
    byId("search").focus();
  } else move(event);
}

const HELP = [
  "Typical pictures have the smallest angle from the mean latent of their category, outliers the largest.",
  "Doubtful ones are those whose answer is least more probable than the next category.",
  "The map puts pictures with like latents together; zoom in for more of them. Frames have the category’s colour.",
  "Keys: Tab to a row, arrows between pictures, Enter opens one, Esc closes it, / searches. On the map arrows move, + and - zoom, 0 shows all.",
  "Names, merges, splits and marks are kept by this browser. Download corrections.json for infoae correct.",
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
byId("save").addEventListener("click", async () => {
  if (await corrections.save()) byId("changes").textContent = "saved";
});
addEventListener("keydown", keys);
prepareDrops();
corrections.onChange(changes);
changes();
show("categories");
