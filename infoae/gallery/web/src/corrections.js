import { data } from "./data.js";
import { read } from "./reading.js";

const KEY = `infoae gallery ${data.key}`;
const listeners = [];
const blank = () => ({ names: {}, merges: [], splits: [], parts: {}, not_this: [], examples: {} });

/** What a person has said, as corrections.json has it; kept by the browser until it is saved. */
export const state = { ...blank(), ...stored() };

function stored() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {}; // private windows have no storage, and what others put there is not ours
  }
}

export const onChange = (listener) => listeners.push(listener);

/** What was said before each change, as JSON, and what was changed last. */
const before = [];
let now = JSON.stringify(state);
let last = null;

/** Tell of a change; those of one name, letter by letter, are one. */
function changed(what = null) {
  const next = JSON.stringify(state);
  if (next !== now && (what === null || what !== last)) before.push(now);
  now = next;
  last = what;
  told();
}

export const canUndo = () => before.length > 0;

/** Take the last change back. */
export function undo() {
  if (!canUndo()) return;
  now = before.pop();
  last = null;
  Object.assign(state, JSON.parse(now));
  told();
}

/** Say what a corrections.json says, instead of what was said here. Throws an Error where it is not of this page. */
export function load(text) {
  Object.assign(state, read(text));
  changed();
}

function told() {
  try {
    localStorage.setItem(KEY, JSON.stringify(state));
  } catch {
    // it lasts as long as the page is open
  }
  for (const listener of listeners) listener();
}

export const nameOf = (category) => state.names[category] ?? data.names[category] ?? `category ${category}`;
export const groupOf = (category) => state.merges.find((group) => group.includes(category)) ?? [category];
export const isSplit = (category) => state.splits.includes(category);
export const isNotThis = (path, category) => state.not_this.some((each) => each.path === path && each.category === category);

export function rename(category, text) {
  const name = [...text.replace(/[\p{C}\p{Z}]/gu, " ").trim()].slice(0, 200).join("").trim(); // printable, as Python asks
  if (name && name !== (data.names[category] ?? "")) state.names[category] = name;
  else delete state.names[category];
  changed(`name ${category}`);
}

/** Put two categories, and all that either is merged with, into one group. */
export function merge(first, second) {
  const groups = [groupOf(first), groupOf(second)];
  const joined = [...new Set(groups.flat())].sort((one, other) => one - other);
  state.merges = [...state.merges.filter((group) => !groups.includes(group)), joined];
  state.splits = state.splits.filter((category) => !joined.includes(category));
  changed();
}

/** Take a category out of its group. */
export function unmerge(category) {
  state.merges = state.merges.map((group) => group.filter((each) => each !== category)).filter((group) => group.length > 1);
  changed();
}

export function toggleSplit(category) {
  if (isSplit(category)) {
    state.splits = state.splits.filter((each) => each !== category);
  } else {
    state.merges = state.merges.map((group) => group.filter((each) => each !== category)).filter((group) => group.length > 1);
    state.splits = [...state.splits, category].sort((one, other) => one - other);
  }
  changed();
}

/** Say which category a part belongs to; the one that it is in takes that back. */
export function movePart(over, from, category) {
  if (category === from) delete state.parts[over];
  else state.parts[over] = category;
  changed();
}

export const partIn = (over, from) => state.parts[over] ?? from;

export function toggleNotThis(path, category) {
  if (isNotThis(path, category)) {
    state.not_this = state.not_this.filter((each) => each.path !== path || each.category !== category);
  } else {
    state.not_this = [...state.not_this, { path, category }];
    if (state.examples[path] === category) delete state.examples[path];
  }
  changed();
}

/** Say which category a picture belongs to; null takes it back. */
export function setExample(path, category) {
  delete state.examples[path];
  if (category !== null) {
    // Not an assignment: a file may be called __proto__.
    Object.defineProperty(state.examples, path, { value: category, enumerable: true, configurable: true, writable: true });
    state.not_this = state.not_this.filter((each) => each.path !== path || each.category !== category);
  }
  changed();
}

export const exampleOf = (path) => (Object.hasOwn(state.examples, path) ? state.examples[path] : null);

/** Paths of all pictures that something was said of. */
export const spokenOf = () => new Set([...Object.keys(state.examples), ...state.not_this.map(({ path }) => path)]);

export function size() {
  return Object.values(state).reduce((sum, said) => sum + (said.length ?? Object.keys(said).length), 0);
}

function text() {
  const head = { format: 1, run: data.run, step: data.step, num_categories: data.num_categories };
  return `${JSON.stringify({ ...head, ...state }, null, 2)}\n`;
}

export function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text()], { type: "application/json" }));
  link.download = "corrections.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

let file = null;

export const canSave = "showSaveFilePicker" in window;

/** Write to a file that is chosen once; false where nothing was chosen. */
export async function save() {
  try {
    file ??= await window.showSaveFilePicker({
      suggestedName: "corrections.json",
      types: [{ description: "Corrections", accept: { "application/json": [".json"] } }],
    });
    const stream = await file.createWritable();
    await stream.write(text());
    await stream.close();
    return true;
  } catch (error) {
    if (error.name === "AbortError") return false;
    file = null; // it may be gone, and another is asked for the next time
    throw error;
  }
}
