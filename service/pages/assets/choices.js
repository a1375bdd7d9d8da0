/** What a person has set, as the parameters of a request. */
import {$, make} from "./elements.js";

const RULES = {
  fixed: "",
  auto: "as many tokens as hold most of the selector's mass",
  loss: "the sparsest that lost no more of top-1 on held-out clips",
  cascade: "starts sparse; the slider is the densest it may become",
};

// Where it is not the slider.
const CHOSEN_BY = {auto: "the clip decides", loss: "what was measured decides"};

// Labels beyond these are not shown at any sparsity of a sweep.
const MOST_LABELS = 20;
// A sweep takes no more.
const MOST_POINTS = 16;
// The other sparsities follow unasked; denser ones than fit into this wait for the slider.
const SWEEP_SECONDS = 10;

/** Whether the slider alone decides, so that another sparsity needs no other request. */
export function sliderDecides() {
  return $("rule").value === "fixed" && !$("budget").value;
}

/** What an answer depends on besides the level that the slider chooses among those answered. */
export function manner() {
  const of = [$("rule").value, $("budget").value, ...part().flat()];
  if (!sliderDecides()) of.push($("sparsity").value, $("loss").value);
  return of.join(" ");
}

/** What of the clip is looked at, as pairs of parameters. */
export function part() {
  return ["views", "start", "end"].map((name) => [name, $(name).value]).filter(([, set]) => set);
}

/** Parameters that `/classify` and `/sweep` have in common. */
function common(model) {
  const parameters = new URLSearchParams({explain: "true"});
  if (model) {
    const top = Math.min(MOST_LABELS, model.labels.length, model.limits.max_top_labels);
    parameters.set("top", top);
  }
  for (const [name, value] of part()) parameters.set(name, value);
  return parameters;
}

/** The query of `/classify`, as set. */
export function query(model) {
  const rule = $("rule").value;
  const sparsity = rule === "auto" ? "auto" : $("sparsity").value;
  const parameters = new URLSearchParams(rule === "loss" ? {max_loss: $("loss").value || 0} :
    {sparsity});
  if (rule === "cascade") parameters.set("cascade", "true");
  if ($("budget").value) parameters.set("budget_ms", $("budget").value);
  if ($("degrade").checked) {
    const trained = model ? model.sparsity.highest : 0;
    const asked = rule === "auto" ? [] : [Number(sparsity)];
    if (rule === "loss") asked.push(...model?.accuracy.map(({sparsity: at}) => at) ?? []);
    parameters.set("max_sparsity", Math.max(trained, ...asked));
  }
  for (const [name, value] of common(model)) parameters.set(name, value);
  return parameters.toString();
}

/** The query of `/timeline`: the same choice for each window, and a line for each. */
export function queryOfTimeline(model) {
  const parameters = new URLSearchParams(query(model));
  for (const name of ["explain", "views", "budget_ms"]) parameters.delete(name);
  parameters.set("top", 1);
  return parameters.toString();
}

/** The query of a single further level. */
export function queryOfLevel(model, level) {
  return new URLSearchParams([["sparsity", level], ...common(model)]).toString();
}

/**
 * The query of `/sweep` that answers the other levels.
 *
 * @param {object} model
 * @param {object} known what was answered at the present `level`: `kept`, `timing`
 */
export function queryOfLevels(model, known) {
  const levels = sweptLevels(model, known).join(",");
  return new URLSearchParams([["sparsities", levels], ...common(model)]).toString();
}

/**
 * As many levels as a sweep takes, with the present one. Those go first that would take too long,
 * and then those whose tokens differ least from their neighbours'.
 */
function sweptLevels(model, {level: shown, timing}) {
  const levels = model.sparsity.levels.map(({sparsity}) => sparsity);
  if (!levels.includes(shown)) levels.push(shown);
  levels.sort((one, other) => one - other);
  const tokenSeconds = timing.extract / keptAt(model, shown);
  const seconds = () => levels.reduce((sum, at) => sum + tokenSeconds * keptAt(model, at), 0);
  while (levels[0] !== shown && seconds() > SWEEP_SECONDS) levels.shift();
  while (levels.length > MOST_POINTS) {
    let least = null;
    for (let at = 1; at < levels.length - 1; at += 1) {
      if (levels[at] === shown) continue;
      const ratio = (1 - levels[at - 1]) / (1 - levels[at + 1]);
      if (least === null || ratio < least.ratio) least = {at, ratio};
    }
    levels.splice(least.at, 1);
  }
  return levels;
}

/** The level that is used for a sparsity: the nearest one that is not sparser. */
export function levelFor(model, asked) {
  if (model.sparsity.exact) return asked;
  return model.sparsity.levels.map((level) => level.sparsity)
    .filter((level) => level <= asked + 1e-9).pop() ?? 0;
}

/** Tokens of a view that are kept at a level. */
export function keptAt(model, level) {
  return Math.max(1, Math.floor((1 - level) * model.geometry.tokens + 0.5));
}

/** Say beside each field what it means as it is set. */
export function describe(model) {
  const asked = Number($("sparsity").value);
  const chosenBy = CHOSEN_BY[$("rule").value];
  $("sparsity").disabled = Boolean(chosenBy);
  $("loss-part").hidden = $("rule").value !== "loss";
  $("shown").textContent = chosenBy ? "auto" : asked.toFixed(2);
  $("rule-text").textContent = RULES[$("rule").value];
  if (chosenBy) {
    $("tokens").textContent = chosenBy;
  } else if (model) {
    const used = levelFor(model, asked);
    $("tokens").textContent = `uses ${used}: looks at ${keptAt(model, used)} of ` +
      `${model.geometry.tokens} tokens of a view`;
  }
  $("sparsity").setAttribute("aria-valuetext",
    `${$("shown").textContent}, ${$("tokens").textContent}`);
}

/** Offer what the model can do, and nothing else. */
export function offer(model) {
  // A whole picture is one view, and scores that nobody trained are no shares of anything.
  for (const option of $("views").options) {
    const crops = Number(option.value.split("x")[1] || 1);
    option.disabled = !model.sampling.spatial_views.includes(crops);
  }
  for (const option of $("rule").options) {
    option.disabled = option.value === "auto" && model.selector.kind !== "learned" ||
      option.value === "loss" && model.accuracy.length === 0;
  }
  $("levels").replaceChildren(...model.sparsity.levels.map(({sparsity}) =>
    make("option", {value: sparsity})));
}
