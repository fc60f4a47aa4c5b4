import { colour, data, paint, percent } from "./data.js";
import { exampleOf, isNotThis, nameOf, onChange, setExample, toggleNotThis } from "./corrections.js";
import { byId, element } from "./dom.js";
import { mark, thumbnail } from "./grid.js";

let shown = null;
let opener = null;

/** Show a picture beside the page: its path, answers, reconstruction and neighbours. */
export function open(index, from = null) {
  shown = index;
  if (from && !byId("detail").contains(from)) opener = from;
  draw();
  byId("detail").hidden = false;
  document.body.classList.add("detailed");
  byId("detail").querySelector(".close").focus();
  byId("detail").scrollTop = 0;
}

export function close() {
  if (byId("detail").hidden) return;
  byId("detail").hidden = true;
  document.body.classList.remove("detailed");
  shown = null;
  if (opener?.isConnected) opener.focus();
}

function draw() {
  const index = shown;
  const path = data.paths[index];
  const [category] = data.categories[index];
  const wrong = element("button", { type: "button", id: "not-this", aria: { pressed: isNotThis(path, category) } });
  wrong.textContent = isNotThis(path, category) ? `Marked: not ${nameOf(category)}` : `Not ${nameOf(category)}`;
  wrong.addEventListener("click", () => toggleNotThis(path, category));
  const belongs = element(
    "select",
    { id: "example", aria: { label: "The category it belongs to" } },
    element("option", { value: "", textContent: "It belongs to …" }),
    ...data.rows.map((row) => element("option", { value: row.category, textContent: nameOf(row.category) })),
  );
  belongs.value = exampleOf(path) ?? "";
  belongs.addEventListener("change", () => setExample(path, belongs.value === "" ? null : Number(belongs.value)));
  const near = data.neighbours[index];
  const parts = [
    heading("Picture"),
    element(
      "div",
      { className: "large" },
      figure("thumbnails", index, "Picture"),
      data.reconstructions.files.length ? figure("reconstructions", index, "Reconstruction") : null,
    ),
    element("p", { className: "path", textContent: path }),
    sound(path),
    answers(data.categories[index], data.probabilities[index]),
    element("p", { className: "quiet", textContent: `${data.distances[index]}° from the mean latent of its category` }),
    element("div", { className: "actions" }, wrong, belongs),
    near.length ? element("h3", { textContent: "Nearest in latent space" }) : null,
    element("div", { className: "pictures wrap" }, ...near.map((other) => thumbnail(other, 72))),
  ];
  byId("detail").replaceChildren(...parts.filter((part) => part !== null));
  const first = byId("detail").querySelector(".picture");
  if (first) first.tabIndex = 0;
}

function heading(text) {
  const leave = element("button", { type: "button", className: "close", textContent: "×", aria: { label: "Close" } });
  leave.addEventListener("click", close);
  return element("div", { className: "heading" }, element("h2", { textContent: text }), leave);
}

/** What plays the file that a spectrogram is of, where the page is opened as a file and can read it. */
function sound(path) {
  if (!/^\/[^#]*\.(wav|flac|ogg|oga|opus)$/i.test(path) || location.protocol !== "file:") return null;
  const made = element("audio", { controls: true, preload: "none", src: `file://${path.split("/").map(encodeURIComponent).join("/")}` });
  made.addEventListener("error", () => made.replaceWith(element("p", { className: "quiet", textContent: "The browser cannot play this file." })));
  return made;
}

function figure(kind, index, caption) {
  const image = element("div", { className: "image", role: "img", aria: { label: caption } });
  paint(image, kind, index, 144);
  return element("figure", {}, image, element("figcaption", { textContent: caption }));
}

function answers(categories, probabilities) {
  const lines = categories.map((category, rank) => {
    const bar = element("span", { className: "bar" });
    bar.style.setProperty("--share", probabilities[rank]);
    bar.style.setProperty("--colour", colour(category));
    return element("li", {}, element("span", { textContent: nameOf(category) }), bar, element("b", { textContent: percent(probabilities[rank]) }));
  });
  return element("ol", { className: "answers" }, ...lines);
}

/** Show what the bundle answers for a dropped picture. */
export function showDropped(name, picture, probabilities) {
  shown = null;
  const order = [...probabilities.keys()].sort((one, other) => probabilities[other] - probabilities[one]).slice(0, 5);
  const panel = byId("detail");
  panel.dataset.probabilities = JSON.stringify([...probabilities]);
  panel.replaceChildren(
    heading("Classified here"),
    element("div", { className: "large" }, element("figure", {}, picture, element("figcaption", { textContent: "as the model sees it" }))),
    element("p", { className: "path", textContent: name }),
    answers(order, order.map((category) => probabilities[category])),
    element("p", { className: "quiet", textContent: "By the exported bundle, on this machine: nothing was sent." }),
  );
  panel.hidden = false;
  document.body.classList.add("detailed");
  panel.querySelector(".close").focus();
}

/** Say in the same place what could not be done with a file, and why. */
export function showProblem(title, name, problem) {
  shown = null;
  byId("detail").replaceChildren(heading(title), element("p", { className: "path", textContent: name }), element("p", { textContent: problem }));
  byId("detail").hidden = false;
  document.body.classList.add("detailed");
}

onChange(() => {
  for (const made of document.querySelectorAll(".picture")) mark(made);
  if (shown === null) return;
  const focused = document.activeElement?.id;
  draw();
  if (focused) byId(focused)?.focus();
});
