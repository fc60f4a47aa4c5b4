/** Make an element. Texts are always text: no name or path is ever read as HTML. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  const { dataset, aria, ...rest } = properties;
  Object.assign(made, rest);
  Object.assign(made.dataset, dataset ?? {});
  for (const [name, value] of Object.entries(aria ?? {})) made.setAttribute(`aria-${name}`, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Bytes of the base64 text in a data block of the page. */
export function bytesOf(id) {
  const text = atob(byId(id).textContent);
  const bytes = new Uint8Array(text.length);
  for (let index = 0; index < text.length; index++) bytes[index] = text.charCodeAt(index);
  return bytes;
}
