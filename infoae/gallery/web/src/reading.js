import { data } from "./data.js";

const KEYS = ["format", "run", "step", "num_categories", "names", "merges", "splits", "parts", "not_this", "examples"];
const NUMBER = /^(0|[1-9]\d*)$/;
const NOT_PRINTABLE = /[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/u;

function check(holds, reason) {
  if (!holds) throw new Error(reason);
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isCategory = (value) => Number.isInteger(value) && value >= 0 && value < data.num_categories;
const areDistinct = (values) => new Set(values).size === values.length;

/** What a corrections.json says, by the rules of `infoae.gallery.corrections`; an Error says in one line what is wrong. */
export function read(text) {
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    throw new Error("It is no JSON.");
  }
  check(isObject(found) && "num_categories" in found, "It is no corrections.json of infoae gallery.");
  const strange = Object.keys(found).find((key) => !KEYS.includes(key));
  check(strange === undefined, `It is no corrections.json of infoae gallery: it has the key ${JSON.stringify(strange)}.`);
  check((found.format ?? 1) === 1, "It is of a newer infoae: its format is not 1.");
  for (const [key, name] of [["run", "run"], ["step", "step"], ["num_categories", "number of categories"]]) {
    check(found[key] === data[key], `It is of another checkpoint: its ${name} is ${JSON.stringify(found[key])}, and that of this page ${JSON.stringify(data[key])}.`);
  }
  const { names = {}, merges = [], splits = [], parts = {}, not_this: notThis = [], examples = {} } = found;
  checkCategories(names, merges, splits);
  check(isObject(parts) && Object.keys(parts).every((over) => NUMBER.test(over)), "Its parts are not numbers.");
  check(Object.values(parts).every(isCategory), "Its parts do not belong to categories of this page.");
  checkPictures(notThis, examples);
  return { names: Object.fromEntries(Object.entries(names).map(([category, name]) => [category, name.trim()])), merges, splits, parts, not_this: notThis, examples };
}

function checkCategories(names, merges, splits) {
  const isNumber = (key) => NUMBER.test(key) && isCategory(Number(key));
  const isName = (name) => typeof name === "string" && name.trim() !== "" && [...name.trim()].length <= 200 && !NOT_PRINTABLE.test(name.trim());
  check(isObject(names) && Object.keys(names).every(isNumber), "Its names are not of categories of this page.");
  check(Object.values(names).every(isName), "Its names are not all printable text of at most 200 characters.");
  check(Array.isArray(merges) && merges.every((group) => Array.isArray(group) && group.length > 1), "Its merges are not groups of two or more categories.");
  const merged = merges.flat();
  check(Array.isArray(splits) && [...merged, ...splits].every(isCategory), "Its merges and splits are not of categories of this page.");
  check(areDistinct([...merged, ...splits]), "Its merges and splits name a category twice.");
}

function checkPictures(notThis, examples) {
  const isMark = (mark) => isObject(mark) && Object.keys(mark).length === 2 && typeof mark.path === "string" && isCategory(mark.category);
  check(Array.isArray(notThis) && notThis.every(isMark), "Its not_this does not hold paths and categories of this page.");
  check(isObject(examples) && Object.values(examples).every(isCategory), "Its examples are not of categories of this page.");
  const both = notThis.find(({ path, category }) => Object.hasOwn(examples, path) && examples[path] === category);
  check(both === undefined, `It says of ${both?.path} that it is of category ${both?.category}, and that it is not.`);
}
