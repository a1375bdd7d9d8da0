/** How far a request has come. */
import {say} from "./announce.js";
import {$} from "./elements.js";

let ticking = null;

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;

/** Show that a clip of `file.size` bytes is on its way; `what` the service does with it then. */
export function begin(file, what) {
  end();
  const started = Date.now();
  const bar = $("progress");
  const show = (text) => { $("work-text").textContent = text; };
  bar.value = 0;
  show(`Sending ${megabytes(file.size)}`);
  say(`Sending ${megabytes(file.size)}.`);
  $("work").hidden = false;
  return (share) => {
    if (share < 1) {
      bar.value = share;
      show(`Sending ${megabytes(file.size)}: ${Math.floor(100 * share)} %`);
      return;
    }
    // How long the rest takes is not known, so that the bar has no value.
    bar.removeAttribute("value");
    say(`Sent. The service ${what}.`);
    const count = () => show(`The service ${what}: ${((Date.now() - started) / 1000).toFixed(0)} s`);
    count();
    clearInterval(ticking);
    ticking = setInterval(count, 1000);
  };
}

/** Show that something takes a while that is no request. */
export function wait(text) {
  end();
  $("progress").removeAttribute("value");
  $("work-text").textContent = text;
  $("work").hidden = false;
  say(text);
}

export function end() {
  clearInterval(ticking);
  $("work").hidden = true;
}
