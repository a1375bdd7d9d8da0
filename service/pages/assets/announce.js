/** What is told to people who do not see the page: one live region for all of it. */
import {$} from "./elements.js";

let waiting = null;

/** Say a sentence. One that follows at once takes its place, so that a slider does not chatter. */
export function say(text, {afterMs = 0} = {}) {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    // A text that stays the same is not announced again.
    $("status").textContent = "";
    requestAnimationFrame(() => { $("status").textContent = text; });
  }, afterMs);
}
