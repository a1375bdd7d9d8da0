/** The element with an id. */
export const $ = (id) => document.getElementById(id);

/** A new element; `properties` are the element's own, `children` its nodes or texts. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
