/** Tables: the points of a sweep, and the looks of a cascade. */
import {$, make} from "./elements.js";
import {billions, percent, points as lead} from "./numbers.js";

/** Fill a table. What a number is of stands in the table's head, and on small screens before it. */
function fill(body, lines) {
  const heads = [...body.closest("table").querySelectorAll("th")].map((head) => head.textContent);
  body.replaceChildren(...lines.map((cells) => make("tr", {}, ...cells.map((cell, index) => {
    const field = make("td", {className: heads[index] === "label" ? "text" : "number"});
    field.textContent = cell;
    field.dataset.of = heads[index];
    return field;
  }))));
}

export function showSweep({points}) {
  fill($("points"), points.map((point) => [point.used, point.tokens, point.labels[0].label,
    percent(point.labels[0].score), point.agreement.overlap.toFixed(3),
    (1000 * point.extract_seconds).toFixed(1), billions(point.macs)]));
  $("sweep-answer").hidden = false;
}

/** Mark the row of the present sparsity. */
export function markLevel(level) {
  for (const row of $("points").rows) {
    const present = Number(row.cells[0].textContent) === level;
    row.classList.toggle("present", present);
    if (present) row.setAttribute("aria-current", "true");
    else row.removeAttribute("aria-current");
  }
}

export function showLooks(cascade) {
  const looks = cascade?.steps ?? [];
  $("looks").hidden = looks.length === 0;
  fill($("steps"), looks.map(({sparsity, tokens, label, score, margin}) =>
    [sparsity, tokens, label, percent(score), lead(margin)]));
}
