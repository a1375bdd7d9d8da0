/** Lists of bars that keep their places while their values change. */
import {make} from "./elements.js";

export class Bars {
  /** @param {HTMLElement} list */
  constructor(list) {
    this._list = list;
    this._rows = new Map();
  }

  /** Forget the rows and their order. */
  clear() {
    this._rows.clear();
    this._list.replaceChildren();
  }

  get names() {
    return [...this._rows.keys()];
  }

  /**
   * Show values. A name keeps the place at which it came first; new ones come last.
   *
   * @param {object[]} rows `name`, `share` of the track that is filled, `text`, and `best`
   */
  show(rows) {
    for (const {name, share, text, best = false} of rows) {
      if (!this._rows.has(name)) this._rows.set(name, this._row(name));
      const {item, fill, number} = this._rows.get(name);
      item.classList.toggle("best", best);
      fill.style.width = `${100 * Math.min(1, share)}%`;
      number.textContent = text;
    }
  }

  _row(name) {
    const fill = make("div", {className: "fill"});
    const number = make("span");
    const track = make("span", {className: "track"}, fill);
    const item = make("li", {className: "bar"}, make("span", {textContent: name}), track, number);
    this._list.append(item);
    return {item, fill, number};
  }
}
