/** How a clip comes onto the page: chosen, dropped, drawn, or from the camera. */
import * as camera from "./camera.js";
import {$} from "./elements.js";
import * as examples from "./examples.js";
import {formatFor} from "./recording.js";
import * as work from "./work.js";

const complain = (text) => { $("pick-problem").textContent = text; };

export const chosenFile = () => $("file").files[0] ?? null;

/** Tell of each clip, whatever way it comes; the file input holds it in any case. */
export function listen(onClip) {
  const picked = () => {
    complain("");
    if (chosenFile()) onClip(chosenFile());
  };
  $("file").addEventListener("change", picked);
  const put = (files) => {
    $("file").files = files;
    picked();
  };
  listenForDrops(put);
  return (file) => {
    const transfer = new DataTransfer();
    transfer.items.add(file);
    put(transfer.files);
  };
}

function listenForDrops(put) {
  // Elements are entered and left one within the other.
  let depth = 0;
  const holdsFiles = ({dataTransfer}) => [...dataTransfer?.types ?? []].includes("Files");
  const show = (over) => { $("drop").hidden = !over; };
  addEventListener("dragenter", (event) => {
    if (!holdsFiles(event)) return;
    depth += 1;
    show(true);
  });
  addEventListener("dragleave", (event) => {
    if (!holdsFiles(event)) return;
    depth = Math.max(0, depth - 1);
    show(depth > 0);
  });
  addEventListener("dragover", (event) => { if (holdsFiles(event)) event.preventDefault(); });
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    depth = 0;
    show(false);
    const {files} = event.dataTransfer;
    if (files.length > 1) return complain("One clip at a time; several files were dropped.");
    if (files.length === 1) put(files);
  });
}

/** Offer what the browser can record and the service accepts. */
export function offerRecordings(model, put) {
  const format = formatFor(model.limits.containers);
  if (!format) return;
  let drawing = false;
  examples.offer(async (name) => {
    if (drawing) return;
    drawing = true;
    complain("");
    work.wait(`An example is being drawn and recorded: ${name}`);
    try {
      put(await examples.render(name, format));
    } catch (error) {
      work.end();
      complain(`The example could not be recorded: ${error.message}`);
    } finally {
      drawing = false;
    }
  });
  if (camera.isThere()) camera.offer(format, put, complain);
}

/** Why a clip need not be sent; null where it may be. The service itself knows more. */
export function tooLarge(file, model) {
  const most = model?.limits.max_body_bytes ?? Infinity;
  if (file.size <= most) return null;
  const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
  return `The clip has ${megabytes(file.size)} MB, and the service takes up to ` +
    `${megabytes(most)} MB. Cut it, or scale it down.`;
}
