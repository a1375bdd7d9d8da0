"use strict";
const $ = (id) => document.getElementById(id);
let model = null;

function bars(list, rows) {
  const most = Math.max(...rows.map((row) => row.value), 1e-9);
  list.replaceChildren(...rows.map(({name, value, text, whole}) => {
    const item = document.createElement("li");
    item.className = "bar";
    const [label, track, number] = ["span", "span", "span"].map((tag) =>
      item.appendChild(document.createElement(tag)));
    label.textContent = name;
    number.textContent = text;
    track.className = "track";
    const fill = track.appendChild(document.createElement("div"));
    fill.className = "fill";
    fill.style.width = `${100 * value / (whole || most)}%`;
    return item;
  }));
}

function headers() {
  const key = $("key").value.trim();
  return key ? {authorization: `Bearer ${key}`} : {};
}

const RULES = {
  fixed: "",
  auto: "as many tokens as hold most of the selector's mass",
  cascade: "starts sparse; the slider is the densest it may become",
};

function query() {
  const rule = $("rule").value;
  const sparsity = rule === "auto" ? "auto" : $("sparsity").value;
  const parameters = new URLSearchParams({sparsity});
  if (rule === "cascade") parameters.set("cascade", "true");
  if ($("budget").value) parameters.set("budget_ms", $("budget").value);
  if ($("degrade").checked) {
    const trained = model ? model.sparsity.highest : 0;
    const asked = rule === "auto" ? trained : Number(sparsity);
    parameters.set("max_sparsity", Math.max(asked, trained));
  }
  if ($("views").value) parameters.set("views", $("views").value);
  return parameters.toString();
}

function levelFor(asked) {
  if (model.sparsity.exact) return asked;
  return model.sparsity.levels.map((level) => level.sparsity)
    .filter((level) => level <= asked + 1e-9).pop() ?? 0;
}

function describe() {
  const asked = Number($("sparsity").value);
  const automatic = $("rule").value === "auto";
  $("sparsity").disabled = automatic;
  $("shown").textContent = automatic ? "auto" : asked.toFixed(2);
  $("rule-text").textContent = RULES[$("rule").value];
  const file = $("file").files[0];
  const name = (file ? file.name : "clip.mp4").replaceAll("'", "'\\''");
  const address = new URL(`classify?${query()}`, document.baseURI);
  const key = $("access").hidden ? "" : " -H 'Authorization: Bearer KEY'";
  $("curl").textContent = `curl -F 'file=@${name}'${key} '${address}'`;
  if (automatic) {
    $("tokens").textContent = "the clip decides";
  } else if (model) {
    const used = levelFor(asked);
    const kept = Math.max(1, Math.floor((1 - used) * model.geometry.tokens + 0.5));
    $("tokens").textContent =
      `uses ${used}: looks at ${kept} of ${model.geometry.tokens} tokens of a view`;
  }
}

let busy = false;

async function ask(path, showAnswer) {
  const file = $("file").files[0];
  if (!file) return void $("form").reportValidity();
  if (busy) return;
  busy = true;
  // Not `disabled`: that would take the focus away from the person who pressed the button by keyboard.
  for (const button of [$("go"), $("sweep")]) button.setAttribute("aria-disabled", "true");
  $("problem").textContent = "";
  $("answer").hidden = $("sweep-answer").hidden = true;
  const form = new FormData();
  form.append("file", file);
  try {
    const {response, answer} = await answered(path, {method: "POST", body: form});
    if (response.ok) showAnswer(answer);
  } catch (error) {
    $("problem").textContent = error.message;
  } finally {
    for (const button of [$("go"), $("sweep")]) button.removeAttribute("aria-disabled");
    busy = false;
  }
}

/** What the service answers; a problem is shown, and anything else is thrown in words. */
async function answered(path, options) {
  let response, answer;
  try {
    response = await fetch(path, {...options, headers: headers()});
  } catch {
    throw new Error("The service cannot be reached.");
  }
  try {
    answer = await response.json();
  } catch {
    throw new Error(`Something else than the service answered, with status ${response.status}.`);
  }
  if (response.status === 401) askForKey();
  if (!response.ok) $("problem").textContent = `${answer.title}\n${answer.detail}`;
  return {response, answer};
}

function askForKey() {
  $("access").hidden = false;
  // A link cannot carry a key.
  $("keyless").hidden = true;
  describe();
}

function classify(event) {
  event.preventDefault();
  return ask(`classify?${query()}`, show);
}

function compare() {
  const views = $("views").value;
  return ask(views ? `sweep?${new URLSearchParams({views})}` : "sweep", showSweep);
}

/** Fill a table. What a number is of stands in the table's head, and on small screens before it. */
function rows(body, lines) {
  const heads = [...body.closest("table").querySelectorAll("th")].map((head) => head.textContent);
  body.replaceChildren(...lines.map((cells) => {
    const row = document.createElement("tr");
    cells.forEach((cell, index) => {
      const field = row.appendChild(document.createElement("td"));
      field.textContent = cell;
      field.className = heads[index] === "label" ? "text" : "number";
      field.dataset.of = heads[index];
    });
    return row;
  }));
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;
// Rounded down, so that a lead which is not enough never reads as if it were.
const points = (lead) => `${Math.floor(1000 * lead + 1e-6) / 10} points`;

const WHY_SPARSER = {
  requests: "too many requests were under way",
  tokens: "too many tokens were under way",
  wait: "too much was waiting",
  budget: "more would not have kept the budget",
};

/** How the sparsity of an answer came about: a list of sentences. */
function story({sparsity, coverage, budget, cascade, cache, unknown}) {
  const said = [];
  if (cascade) said.push(...storyOfCascade(sparsity, cascade));
  else if (coverage) said.push(storyOfClip(sparsity, coverage));
  else said.push(storyOfNumber(sparsity, budget));
  if (budget) {
    const times = `${budget.spent_ms.toFixed(0)} ms were spent, ` +
      `${budget.predicted_ms.toFixed(0)} ms predicted`;
    if (!budget.fits) said.push("Even the sparsest look allowed was predicted to be late.");
    said.push(`The budget of ${budget.asked_ms} ms was ${budget.met ? "met" : "missed"}: ${times}.`);
  }
  if (cache === "hit") said.push("All of it was known from the same clip before.");
  if (cache === "partial") {
    said.push("The clip was known; only the extractor had to look at it again.");
  }
  if (sparsity.note) said.push(sparsity.note);
  if (unknown) said.push("No label scores high enough to be an answer: it is unknown.");
  return said;
}

function storyOfNumber({asked, used, degraded, reason}, budget) {
  if (degraded) return `${asked ?? "The default"} was asked for; ${used} was used, because ` +
    `${WHY_SPARSER[reason]}.`;
  if (asked === null && budget) return `No sparsity was asked for; the budget decided for ${used}.`;
  if (asked === null) return `No sparsity was asked for; the default of ${used} was used.`;
  if (asked === used) return `${used} was asked for and used.`;
  return `${asked} was asked for; ${used} was used, the nearest level that is not sparser.`;
}

function storyOfClip({used, degraded, reason}, {asked, reached}) {
  const held = `hold ${percent(reached)} of what the selector found`;
  if (degraded) return `The clip asked for more, but ${used} was used, because ` +
    `${WHY_SPARSER[reason]}; the tokens kept ${held}, and ${percent(asked)} were asked for.`;
  if (reached < asked) return `${used} was used, the densest that may be chosen; the tokens kept ` +
    `${held}, and ${percent(asked)} were asked for.`;
  return `The clip decided for ${used}: the tokens kept ${held}, and ${percent(asked)} were ` +
    "asked for.";
}

/** How clear an answer is: of labels that exclude each other, by how much the first one leads. */
function clearness(margin) {
  return model && model.answer.kind === "sigmoid" ?
    `the label nearest to its threshold is ${points(margin)} clear of it` :
    `the first label leads by ${points(margin)}`;
}

function storyOfCascade({asked, used, degraded, reason}, {margin, steps, stopped}) {
  const last = steps[steps.length - 1];
  const looks = steps.length === 1 ? `There was one look, at ${used}` :
    `There were ${steps.length} looks, from ${steps[0].sparsity} to ${used}`;
  const bound = asked === null ? "Looks may become as dense as the model was trained for." :
    `Looks may become as dense as a sparsity of ${asked}.`;
  if (stopped === "margin") {
    return [bound, `${looks}: ${clearness(last.margin)}, and ` +
      `${points(margin)} are enough.`];
  }
  let why = "this is the densest look allowed";
  if (stopped === "budget") why = "a denser look would not have kept the budget";
  else if (degraded) why = `denser looks were left out, because ${WHY_SPARSER[reason]}`;
  return [bound, `${looks}: ${clearness(last.margin)}, ` +
    `${points(margin)} would be enough, but ${why}.`];
}

function showSweep({points}) {
  rows($("points"), points.map((point) => [point.used, point.tokens, point.labels[0].label,
    percent(point.labels[0].score), point.agreement.overlap.toFixed(3),
    (1000 * point.extract_seconds).toFixed(1), (point.macs / 1e9).toFixed(2)]));
  $("sweep-answer").hidden = false;
}

function show(answer) {
  bars($("labels"), answer.labels.map(({label, score, above_threshold: there}) =>
    ({name: label, value: score, whole: 1, text: percent(score) + (there ? ", there" : "")})));
  const {total, ...stages} = answer.timing;
  bars($("stages"), Object.entries(stages).map(([name, seconds]) =>
    ({name, value: seconds, text: `${(1000 * seconds).toFixed(1)} ms`})));
  const {clip, tokens} = answer;
  $("facts").textContent =
    `${clip.width} x ${clip.height} ${clip.codec}, ${clip.frames} frames, ` +
    `${clip.duration_seconds} s. Looked at ${tokens.kept} of ${tokens.total} tokens ` +
    `(sparsity ${answer.sparsity.used}), ${(answer.macs / 1e9).toFixed(2)} billion ` +
    `multiply-accumulates, ${(1000 * total).toFixed(0)} ms in all.`;
  $("choice").textContent = story(answer).join(" ");
  const looks = answer.cascade ? answer.cascade.steps : [];
  $("looks").hidden = looks.length === 0;
  rows($("steps"), looks.map(({sparsity, tokens, label, score, margin}) =>
    [sparsity, tokens, label, percent(score), points(margin)]));
  $("answer").hidden = false;
}

let touched = false;

async function start() {
  $("sparsity").addEventListener("input", () => { touched = true; });
  for (const id of ["sparsity", "views", "file", "rule", "budget", "degrade"]) {
    $(id).addEventListener("input", describe);
  }
  $("form").addEventListener("submit", classify);
  $("sweep").addEventListener("click", compare);
  $("key").addEventListener("change", look);
  $("sparsity").value = 0.7;
  describe();
  await look();
}

/** Learn what is served; again when a key is given. */
async function look() {
  let known;
  try {
    known = await answered("model");
  } catch (error) {
    $("problem").textContent = error.message;
    return;
  }
  if (!known.response.ok) {
    // That a key is wanted is no problem before one was given.
    if (!$("key").value.trim() && known.response.status === 401) $("problem").textContent = "";
    return;
  }
  $("problem").textContent = "";
  const first = model === null;
  model = known.answer;
  if (first && !touched) $("sparsity").value = model.sparsity.default;
  $("model").textContent = `Serving ${model.bundle.name} ${model.bundle.version}: ` +
    `${model.labels.length} labels, ${model.geometry.tokens} tokens a view.`;
  $("about").textContent = about(model).join(" ");
  // A whole picture is one view, and scores that nobody trained are no shares of anything.
  for (const option of $("views").options) {
    const crops = Number(option.value.split("x")[1] || 1);
    option.disabled = !model.sampling.spatial_views.includes(crops);
  }
  for (const option of $("rule").options) {
    option.disabled = option.value === "auto" && model.selector.kind !== "learned";
  }
  describe();
}

const SELECTORS = {
  learned: "a trained selector",
  change: "what changes from frame to frame, without training",
  group: "the same share from each group of frames, without training",
  unique: "what differs most from all else, without training",
  random: "chance",
};
const BASES = {
  trained: "seen in training",
  tuned: "seen in a short tuning",
  untuned: "taken from published networks like it, which nobody trained for them",
};
const FRAMINGS = {
  crop: "a square of the picture",
  squash: "all of the picture, squeezed into a square",
  pad: "all of the picture, between black bars",
};

/** What a visitor should know of the model: a list of sentences. */
function about({selector, sampling, answer, sparsity, rivals, licence, source}) {
  const frames = sampling.kind === "uniform" ? "frames from all of the clip" :
    `windows of frames, ${sampling.stride} apart`;
  const said = [
    `Tokens are chosen by ${SELECTORS[selector.kind]}.`,
    `A view shows ${frames}, and ${FRAMINGS[sampling.framing]}.`,
    `It is meant for sparsities from ${sparsity.lowest} to ${sparsity.highest}, ` +
      `${BASES[sparsity.basis]}.`,
  ];
  if (answer.kind === "sigmoid") said.push("Its labels do not exclude each other.");
  for (const {name, macs, top1} of rivals) {
    said.push(`For ${(macs / 1e9).toFixed(2)} billion multiply-accumulates, ${name} is right in ` +
      `${percent(top1)}.`);
  }
  if (source) said.push(`Its weights come from ${source}.`);
  if (licence) {
    const use = {true: "commercial use allowed", false: "no commercial use"}[licence.commercial] ??
      "commercial use unclear";
    said.push(`Licence: ${licence.name}, ${use}.`);
    if (licence.attribution) said.push(`${licence.attribution}.`.replace(/\.\.$/, "."));
  }
  return said;
}
start();
