/** Where the budget of tokens went over time. */
import {$, make} from "./elements.js";
import {percent} from "./numbers.js";

export class Strip {
  /** @param {(seconds: number) => void} seek told where somebody pointed to */
  constructor(seek) {
    this._strip = $("strip");
    this._duration = 0;
    this._bars = new Map();
    this._head = make("div", {className: "head"});
    this._strip.addEventListener("click", (event) => {
      const {left, width} = this._strip.getBoundingClientRect();
      if (this._duration) seek(this._duration * (event.clientX - left) / width);
    });
  }

  clear() {
    this._bars.clear();
    this._strip.replaceChildren();
    $("strip-text").textContent = "";
  }

  /**
   * Show a bar for each step: as wide as it lasts, as high as its share. The bars of a clip stay
   * and change their heights.
   *
   * @param {object[]} views of an explanation
   * @param {number[][] | null} shares of each view's tokens on its steps
   * @param {number} duration seconds
   */
  show(views, shares, duration) {
    this._duration = duration;
    if (shares === null) {
      this.clear();
      $("strip-text").textContent =
        "How the tokens spread over time is told as soon as this sparsity is answered.";
      return;
    }
    const rows = rowsOf(views, shares);
    const most = Math.max(...rows.flat().map(({share}) => share), 1e-9);
    rows.forEach((steps, row) => steps.forEach((step, at) => {
      const name = `${row} ${at}`;
      if (!this._bars.has(name)) this._bars.set(name, this._bar(row));
      const bar = this._bars.get(name);
      const [from, until] = [step.from_seconds, Math.min(step.until_seconds, duration)];
      bar.style.left = `${100 * from / duration}%`;
      bar.style.width = `${100 * Math.max(0, until - from) / duration}%`;
      bar.title = `${from.toFixed(2)} to ${until.toFixed(2)} s: ${percent(step.share)}`;
      bar.firstChild.style.height = `${100 * step.share / most}%`;
    }));
    this._strip.append(this._head);
    $("strip-text").textContent = inWords(rows, duration);
  }

  /** Move the line that shows the present. */
  at(seconds) {
    if (!this._duration) return;
    this._head.style.left = `${100 * Math.min(1, seconds / this._duration)}%`;
  }

  _bar(row) {
    while (this._strip.querySelectorAll(".lane").length <= row) {
      this._strip.append(make("div", {className: "lane"}));
    }
    const bar = make("div", {className: "step"}, make("div", {className: "height"}));
    this._strip.querySelectorAll(".lane")[row].append(bar);
    return bar;
  }
}

/** Of each temporal view its steps with the mean share of its spatial views. */
function rowsOf(views, shares) {
  const rows = [];
  views.forEach(({temporal, steps}, view) => {
    rows[temporal] ??= steps.map((step) => ({...step, share: 0, crops: 0}));
    rows[temporal].forEach((step, at) => {
      step.crops += 1;
      step.share += (shares[view][at] - step.share) / step.crops;
    });
  });
  return rows;
}

/** How little of the time holds half of what was looked at. */
function inWords(rows, duration) {
  const steps = rows.flat().map(({from_seconds: from, until_seconds: until, share}) =>
    ({from, until, dense: share / Math.max(until - from, 1e-9), share: share / rows.length}));
  const fullest = steps.toSorted((one, other) => other.dense - one.dense);
  let held = 0;
  const taken = [];
  for (const step of fullest) {
    if (held >= 0.5 - 1e-6) break;
    held += step.share;
    taken.push(step);
  }
  return `${percent(held)} of what was looked at lies in ${together(taken).toFixed(2)} of ` +
    `${duration.toFixed(2)} s; most at ${fullest[0].from.toFixed(2)} s.`;
}

/** Seconds that steps cover; those of several views may overlap. */
function together(steps) {
  let [seconds, reached] = [0, 0];
  for (const {from, until} of steps.toSorted((one, other) => one.from - other.from)) {
    seconds += Math.max(0, until - Math.max(from, reached));
    reached = Math.max(reached, until);
  }
  return seconds;
}
