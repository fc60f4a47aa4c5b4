import { colour, count, data, paint, percent } from "./data.js";
import { exampleOf, isNotThis, nameOf } from "./corrections.js";
import { element } from "./dom.js";
import { open } from "./detail.js";

/** A picture as a button: a click or Enter opens it. */
export function thumbnail(index, size = 64) {
  const category = data.categories[index][0];
  const made = element("button", { type: "button", className: "picture", tabIndex: -1, dataset: { index } });
  made.setAttribute("aria-label", `${data.paths[index]}, ${nameOf(category)}, ${percent(data.probabilities[index][0])}`);
  made.title = `${data.paths[index]}\n${nameOf(category)} ${percent(data.probabilities[index][0])}`;
  made.style.width = made.style.height = `${size}px`;
  made.style.setProperty("--colour", colour(category));
  paint(made, "thumbnails", index, size);
  mark(made);
  made.addEventListener("click", () => open(index, made));
  return made;
}

/** Show on a picture what was said of it. */
export function mark(made) {
  const index = Number(made.dataset.index);
  const path = data.paths[index];
  made.classList.toggle("wrong", isNotThis(path, data.categories[index][0]));
  made.classList.toggle("told", exampleOf(path) !== null);
}

/** A strip of pictures under a heading; arrow keys move within it and to the next one. */
export function strip(label, explanation, indices, size) {
  const pictures = indices.map((index) => thumbnail(index, size));
  if (pictures.length) pictures[0].tabIndex = 0;
  return element(
    "div",
    { className: "strip" },
    element("h3", { textContent: label, title: explanation }),
    element("div", { className: "pictures" }, ...pictures),
  );
}

const PAGE = 300;

/** All pictures of `indices`, some hundred at a time. */
export function wall(container, title, indices) {
  const pictures = element("div", { className: "pictures wrap" });
  const more = element("button", { type: "button", className: "more" });
  let shown = 0;
  const next = () => {
    const part = indices.slice(shown, shown + PAGE).map((index) => thumbnail(index, 72));
    if (shown === 0 && part.length) part[0].tabIndex = 0;
    pictures.append(...part);
    shown += part.length;
    more.hidden = shown >= indices.length;
    more.textContent = `Show more (${(indices.length - shown).toLocaleString("en")} left)`;
  };
  more.addEventListener("click", next);
  container.replaceChildren(element("h2", { textContent: title }), pictures, more);
  next();
}

export function found(text) {
  const wanted = text.toLowerCase();
  const matches = [];
  for (let index = 0; index < count; index++) if (data.paths[index].toLowerCase().includes(wanted)) matches.push(index);
  return matches;
}

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Arrow keys: sideways to the next picture, up and down to the nearest one of the next line, in this strip or another. */
export function move(event) {
  const here = event.target.closest?.(".picture");
  const step = STEPS[event.key];
  if (!here || !step || event.altKey || event.ctrlKey || event.metaKey) return;
  const all = [...here.closest("section, aside").querySelectorAll(".picture")];
  const next = step[0] ? beside(here, step[0]) : nextLine(here, all, step[1]);
  event.preventDefault();
  if (!next) return;
  for (const other of next.parentElement.children) other.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
  next.scrollIntoView({ block: "nearest", inline: "nearest" });
}

const beside = (here, step) => (step > 0 ? here.nextElementSibling : here.previousElementSibling);

function nextLine(here, all, step) {
  const from = here.getBoundingClientRect();
  let best = null;
  for (const other of all) {
    const to = other.getBoundingClientRect();
    const down = (to.top - from.top) * step;
    if (down < 2) continue;
    const key = [Math.round(down), Math.abs(to.left - from.left)];
    if (!best || key[0] < best.key[0] || (key[0] === best.key[0] && key[1] < best.key[1])) best = { other, key };
  }
  return best?.other ?? null;
}
