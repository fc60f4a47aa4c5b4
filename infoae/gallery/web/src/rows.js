import { colour, count, data, percent, pictures } from "./data.js";
import { groupOf, isSplit, merge, movePart, nameOf, onChange, partIn, rename, toggleSplit, unmerge } from "./corrections.js";
import { element } from "./dom.js";
import { strip } from "./grid.js";

const KINDS = {
  typical: ["Typical", "The smallest angle from the mean latent of the category"],
  doubtful: ["Doubtful", "The answer is least more probable than the next one"],
  outliers: ["Outliers", "The largest angle from the mean latent of the category"],
};

/** A row for each category; `showAll` is called with its number. */
export function rows(container, showAll) {
  container.replaceChildren(...data.rows.map((row) => rowOf(row, showAll)));
}

function rowOf(row, showAll) {
  const { category } = row;
  const id = `name-${category}`;
  const name = element("input", {
    id,
    className: "name",
    placeholder: `category ${category}`,
    maxLength: 200,
    autocomplete: "off",
    dataset: { category },
  });
  let typing = false;
  name.addEventListener("input", () => {
    typing = true;
    rename(category, name.value);
    typing = false;
  });
  name.addEventListener("keydown", (event) => event.key === "Enter" && name.blur());
  name.addEventListener("blur", () => refresh());
  const all = element("button", { type: "button", textContent: "Show all", disabled: row.size === 0 });
  all.addEventListener("click", () => showAll(category));
  const split = element("button", { type: "button", title: "This category is several: infoae correct splits it" });
  split.addEventListener("click", () => toggleSplit(category));
  const others = element("select", { aria: { label: `Merge category ${category} with` } });
  others.addEventListener("change", () => {
    if (others.value !== "") merge(category, Number(others.value));
    others.value = "";
  });
  const merged = element("p", { className: "merged" });

  const refresh = () => {
    if (!typing) name.value = nameOf(category) === `category ${category}` ? "" : nameOf(category);
    const split_ = isSplit(category);
    split.textContent = split_ ? "Do not split" : "Split";
    split.setAttribute("aria-pressed", split_);
    const group = groupOf(category).filter((other) => other !== category);
    const options = data.rows.map((other) => other.category).filter((other) => other !== category && !group.includes(other));
    others.replaceChildren(
      element("option", { value: "", textContent: "Merge with …" }),
      ...options.map((other) => element("option", { value: other, textContent: nameOf(other) })),
    );
    others.hidden = options.length === 0;
    merged.replaceChildren();
    merged.hidden = group.length === 0 && !split_;
    if (split_) merged.append("to be split");
    if (group.length) {
      const undo = element("button", { type: "button", className: "link", textContent: "undo" });
      undo.addEventListener("click", () => unmerge(category));
      merged.append(`one with ${group.map(nameOf).join(", ")} `, undo);
    }
  };
  onChange(refresh);
  refresh();

  const made = element(
    "article",
    { className: "row", dataset: { category } },
    element(
      "div",
      { className: "about" },
      element("label", { htmlFor: id, className: "hidden", textContent: `Name of category ${category}` }),
      element("div", { className: "title" }, element("span", { className: "swatch" }), name),
      element("p", { className: "size", textContent: `${pictures(row.size)} · ${percent(row.size / count)}` }),
      merged,
      element("div", { className: "actions" }, all, others, split),
    ),
    element(
      "div",
      { className: "strips" },
      ...Object.entries(KINDS).map(([kind, [label, explanation]]) => row[kind].length ? strip(label, explanation, row[kind]) : null),
      row.parts.length ? partsOf(row) : null,
    ),
  );
  made.style.setProperty("--colour", colour(category));
  return made;
}

/** The over-categories of a category, each with its pictures and where it belongs; made when they are asked for. */
function partsOf({ category, parts }) {
  const made = element("details", { className: "parts" }, element("summary", { textContent: `${parts.length} parts` }));
  made.addEventListener("toggle", () => made.children.length > 1 || made.append(...parts.map((part) => partOf(part, category))), { once: true });
  return made;
}

function partOf({ over, size, typical }, category) {
  const explanation = "Pictures that go together: the smallest angle from the mean latent of the part";
  const made = strip(pictures(size), explanation, typical);
  const where = element("select", { dataset: { over }, aria: { label: `Part ${over} belongs to` } });
  where.addEventListener("change", () => movePart(over, category, Number(where.value)));
  const refresh = () => {
    where.replaceChildren(...data.rows.map((other) => element("option", { value: other.category, textContent: nameOf(other.category) })));
    where.value = partIn(over, category);
    made.classList.toggle("moved", partIn(over, category) !== category);
  };
  onChange(refresh);
  refresh();
  made.firstChild.replaceWith(element("div", { className: "where" }, made.firstChild.cloneNode(true), where));
  return made;
}
