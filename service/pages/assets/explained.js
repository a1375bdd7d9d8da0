/** What stands in for a clip that the browser cannot play: the service's picture of its frames. */
import {$} from "./elements.js";
import {ask} from "./service.js";

let asking = null;
const pictures = new Map();

/** Forget the pictures of the clip before. */
export function forget() {
  asking?.abort();
  pictures.clear();
  $("picture").hidden = true;
}

/**
 * Show the frames that were sampled at a level, what was not looked at darkened.
 *
 * It is drawn, not linked to: the security policy then need not allow pictures from memory.
 *
 * @param {File} file the clip
 * @param {number} level
 * @param {string[][]} part what of the clip is looked at, as pairs of parameters
 * @throws {Problem} the service cannot make it; {Stopped} another was asked for
 */
export async function show(file, level, part) {
  asking?.abort();
  asking = new AbortController();
  const query = new URLSearchParams([["sparsity", level], ["format", "png"], ...part]);
  if (!pictures.has(level)) {
    const {signal} = asking;
    const png = await ask(`explain?${query}`, {file, blob: true, signal});
    pictures.set(level, await createImageBitmap(png));
  }
  const picture = pictures.get(level);
  const canvas = $("picture");
  Object.assign(canvas, {width: picture.width, height: picture.height});
  canvas.getContext("2d").drawImage(picture, 0, 0);
  canvas.setAttribute("aria-label",
    `The sampled frames, in order; at a sparsity of ${level} what is dark was not looked at`);
  canvas.hidden = false;
}
