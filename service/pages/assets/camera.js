/** Clips from the camera. */
import {say} from "./announce.js";
import {$} from "./elements.js";
import {pause, record} from "./recording.js";

const SECONDS = 3;

const WHY_NOT = {
  NotAllowedError: "The browser does not let this page use the camera. Allow it beside the " +
    "page's address, and try again.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera is in use by something else.",
};

/** Whether there can be one: browsers give cameras to pages over TLS, and to this machine's own. */
export const isThere = () => window.isSecureContext && Boolean(navigator.mediaDevices?.getUserMedia);

/**
 * Offer the camera.
 *
 * @param {object} format of :func:`formatFor`
 * @param {(file: File) => void} chosen told of what was recorded
 * @param {(text: string) => void} complain
 */
export function offer(format, chosen, complain) {
  let stream = null;

  function close() {
    for (const track of stream?.getTracks() ?? []) track.stop();
    stream = null;
    $("camera-picture").srcObject = null;
    $("camera-panel").hidden = true;
    $("camera-open").hidden = false;
  }

  $("camera-open").onclick = async () => {
    complain("");
    try {
      stream = await navigator.mediaDevices.getUserMedia({video: true});
    } catch (error) {
      return complain(WHY_NOT[error.name] ?? `The camera does not answer: ${error.message}`);
    }
    $("camera-picture").srcObject = stream;
    $("camera-picture").play().catch(() => {});
    $("camera-panel").hidden = false;
    $("camera-open").hidden = true;
    $("camera-record").focus();
    say("The camera is on. Nothing is sent before it was recorded.");
  };
  $("camera-close").onclick = () => {
    close();
    $("camera-open").focus();
  };
  $("camera-record").onclick = async () => {
    const button = $("camera-record");
    if (button.getAttribute("aria-disabled") === "true") return;
    button.setAttribute("aria-disabled", "true");
    const label = button.textContent;
    say("Recording.");
    try {
      const done = async () => {
        for (let left = SECONDS; left > 0; left -= 1) {
          button.textContent = `Recording: ${left}`;
          await pause(1000);
        }
      };
      const file = await record(stream, {format, name: "camera", done});
      close();
      chosen(file);
    } catch (error) {
      complain(`The recording failed: ${error.message}`);
    } finally {
      button.textContent = label;
      button.removeAttribute("aria-disabled");
    }
  };
  $("camera").hidden = false;
}
