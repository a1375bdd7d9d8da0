/** Which tokens were kept, drawn over the clip as it plays. */

// How dark is what no view shows, and what was shown and not looked at.
const OUTSIDE = 0.84;
const DROPPED = 0.68;
// Frames of a clip have time stamps of a microsecond; a step's bounds are rounded to as much.
const SLACK_SECONDS = 1e-5;

/** A selection at one K, ready to be asked what is lit at a time. */
export class Selection {
  /**
   * @param {object} explanation as the service answers it
   * @param {number} kept K tokens of a view; of those that are not listed nothing is known
   */
  constructor(explanation, kept) {
    this.grid = explanation.grid;
    this.views = explanation.views.map((view) => {
      const steps = view.steps.map((step) => ({...step, tokens: []}));
      for (const token of view.tokens.slice(0, kept)) steps[token.step].tokens.push(token);
      return {...view, steps};
    });
  }

  /** The step of each view that is nearest to a time; null outside of what was sampled. */
  at(seconds) {
    const time = seconds + SLACK_SECONDS;
    return this.views.map((view) => view.steps.findLast((step) =>
      step.from_seconds <= time && time < step.until_seconds + SLACK_SECONDS) ?? null);
  }

  /** What each spatial view shows; temporal views show the same. */
  get regions() {
    return this.views.filter(({temporal}) => temporal === 0).map(({region}) => region);
  }
}

export class Overlay {
  /** @param {HTMLCanvasElement} canvas over the picture, as large as it */
  constructor(canvas) {
    this._canvas = canvas;
    this._selection = null;
    this._clip = null;
    this._drawn = "";
    this.dims = this.frames = true;
  }

  /** @param {object} clip `width` and `height` of the clip as displayed */
  show(selection, clip) {
    this._selection = selection;
    this._clip = clip;
    this._drawn = "";
  }

  clear() {
    this._selection = null;
    this._drawn = "";
    this._canvas.getContext("2d").clearRect(0, 0, this._canvas.width, this._canvas.height);
  }

  /** Draw what is lit at a time, in the canvas's present size. */
  draw(seconds) {
    const canvas = this._canvas;
    const density = window.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * density);
    const height = Math.round(canvas.clientHeight * density);
    const steps = this._selection?.at(seconds) ?? [];
    const picture = [width, height, this.dims, this.frames,
      ...steps.map((step) => step?.from_seconds)].join(" ");
    if (picture === this._drawn) return;
    this._drawn = picture;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!this._selection || !width) return;
    context.scale(width / this._clip.width, height / this._clip.height);
    const pixel = this._clip.width / width * density;
    if (this.dims) this._darken(context, steps, pixel);
    if (this.frames) this._outline(context, pixel);
  }

  _darken(context, steps, pixel) {
    const {width, height} = this._clip;
    context.fillStyle = `rgb(0 0 0 / ${OUTSIDE})`;
    context.fillRect(0, 0, width, height);
    for (const region of this._selection.regions) clear(context, region);
    context.fillStyle = `rgb(0 0 0 / ${DROPPED})`;
    for (const region of this._selection.regions) fillOnce(context, region);
    const lit = steps.flatMap((step) => step?.tokens ?? []);
    // The outlines of all, and then the tokens themselves, so that an outline is left around groups.
    context.fillStyle = "rgb(255 255 255 / .75)";
    for (const token of lit) {
      context.fillRect(token.x - pixel, token.y - pixel, token.width + 2 * pixel,
        token.height + 2 * pixel);
    }
    for (const token of lit) clear(context, token);
    if (steps.every((step) => step === null)) this._say(context, "not sampled", pixel);
  }

  _say(context, text, pixel) {
    context.fillStyle = "#fff";
    context.font = `${16 * pixel}px sans-serif`;
    context.textAlign = "center";
    context.fillText(text, this._clip.width / 2, this._clip.height / 2);
  }

  /** Dark and light, so that one of both is seen on any clip. */
  _outline(context, pixel) {
    for (const {x, y, width, height} of this._selection.regions) {
      const inside = [Math.max(x, 0) + pixel, Math.max(y, 0) + pixel,
        Math.min(width, this._clip.width) - 2 * pixel,
        Math.min(height, this._clip.height) - 2 * pixel];
      context.lineWidth = 2 * pixel;
      for (const [colour, dashes] of [["#000", []], ["#4cc3ad", [6 * pixel, 6 * pixel]]]) {
        context.strokeStyle = colour;
        context.setLineDash(dashes);
        context.strokeRect(...inside);
      }
    }
  }
}

function clear(context, {x, y, width, height}) {
  context.clearRect(x, y, width, height);
}

/** Regions of several views overlap: a second coat would make what lies in both darker. */
function fillOnce(context, {x, y, width, height}) {
  context.clearRect(x, y, width, height);
  context.fillRect(x, y, width, height);
}

/**
 * Draw what the model sees of the clip's present frame: each spatial view's square, dropped tokens
 * darkened.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {CanvasImageSource} picture the frame
 * @param {Selection} selection
 * @param {object} at `seconds` in the clip, `size` of a view in pixels, `clip` as displayed,
 *   `across` how many pixels of the picture stand for the clip's width
 */
export function drawSeen(canvas, picture, selection, {seconds, size, clip, across}) {
  const {regions, views, grid} = selection;
  const gap = 4;
  const wide = regions.length * (size + gap) - gap;
  if (canvas.width !== wide || canvas.height !== size) {
    Object.assign(canvas, {width: wide, height: size});
  }
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, wide, size);
  const scale = across / clip.width;
  const steps = selection.at(seconds);
  regions.forEach((region, spatial) => {
    const left = spatial * (size + gap);
    context.fillStyle = "#000";
    context.fillRect(left, 0, size, size);
    // A source that reaches beyond the picture is cut, and the square with it: black bars stay.
    context.drawImage(picture, region.x * scale, region.y * scale, region.width * scale,
      region.height * scale, left, 0, size, size);
    const kept = new Set(views.flatMap((view, at) => view.spatial === spatial ?
      (steps[at]?.tokens ?? []).map(({row, column}) => row * grid.columns + column) : []));
    context.fillStyle = "rgb(0 0 0 / .75)";
    const [high, broad] = [size / grid.rows, size / grid.columns];
    for (let cell = 0; cell < grid.rows * grid.columns; cell += 1) {
      if (kept.has(cell)) continue;
      context.fillRect(left + (cell % grid.columns) * broad,
        Math.floor(cell / grid.columns) * high, broad, high);
    }
  });
}
