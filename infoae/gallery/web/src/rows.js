import { colour, count, data, number, percent } from "./data.js";
import { groupOf, isSplit, merge, nameOf, onChange, rename, toggleSplit, unmerge } from "./corrections.js";
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
      element("p", { className: "size", textContent: `${number(row.size)} pictures · ${percent(row.size / count)}` }),
      merged,
      element("div", { className: "actions" }, all, others, split),
    ),
    element(
      "div",
      { className: "strips" },
      ...Object.entries(KINDS).map(([kind, [label, explanation]]) => row[kind].length ? strip(label, explanation, row[kind]) : null),
    ),
  );
  made.style.setProperty("--colour", colour(category));
  return made;
}
