/** Problems, told with what to do, and the button that tries again. */
import {$, make} from "./elements.js";
import {ask} from "./service.js";

let ticking = null;
let tried = null;
let latest = 0;

/** Show no problem. */
export function clear() {
  latest += 1;
  clearInterval(ticking);
  $("problem").replaceChildren();
  $("again").hidden = true;
}

/**
 * Tell a problem, and what to do about it.
 *
 * @param {Problem} problem
 * @param {(() => void) | null} again what trying again means, where that may help
 */
export async function tell(problem, again = null) {
  clear();
  const mine = latest;
  const advice = problem.code ? await adviceFor(problem.code) : null;
  if (mine !== latest) return;
  // All at once: a live region is read as it changes.
  $("problem").replaceChildren(
    make("strong", {textContent: `${problem.title.replace(/\.$/, "")}.`}),
    ...[problem.detail, advice].filter(Boolean).map((text) => make("p", {textContent: text})));
  if (again && mayHelp(problem)) offer(again, problem.retryAfter ?? 0);
}

/** What the service advises; nothing where it cannot be asked. */
async function adviceFor(code) {
  try {
    return (await ask(`problems/${encodeURIComponent(code)}`)).advice;
  } catch {
    return null;
  }
}

/** A clip or a parameter that is wrong stays wrong. */
function mayHelp({status}) {
  return status === 0 || status === 408 || status === 429 || status >= 500;
}

function offer(again, seconds) {
  const button = $("again");
  const until = Date.now() + 1000 * seconds;
  const count = () => {
    const left = Math.ceil((until - Date.now()) / 1000);
    button.textContent = left > 0 ? `Try again in ${left} s` : "Try again";
    // Not `disabled`: that would take the focus away from the person who waits on it.
    button.setAttribute("aria-disabled", String(left > 0));
    if (left <= 0) clearInterval(ticking);
  };
  tried = again;
  button.hidden = false;
  ticking = setInterval(count, 250);
  count();
}

$("again").addEventListener("click", () => {
  if ($("again").getAttribute("aria-disabled") === "true") return;
  const again = tried;
  clear();
  again();
});
