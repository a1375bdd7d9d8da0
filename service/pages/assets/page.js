/** The page: a clip is chosen and classified, and its other sparsities follow. */
import {about} from "./about.js";
import {say} from "./announce.js";
import {Answers} from "./answers.js";
import * as chart from "./chart.js";
import * as choices from "./choices.js";
import {markLevel, showLooks, showSweep} from "./comparison.js";
import {$} from "./elements.js";
import * as explained from "./explained.js";
import {headline, Labels, showStages} from "./labels.js";
import {billions} from "./numbers.js";
import {drawSeen, Overlay, Selection} from "./overlay.js";
import * as picking from "./picking.js";
import {Player} from "./player.js";
import * as problems from "./problems.js";
import {ask, key, Problem, Stopped} from "./service.js";
import * as snippets from "./snippets.js";
import {story} from "./story.js";
import {Strip} from "./strip.js";
import {Timeline} from "./timeline.js";
import * as work from "./work.js";

// A slider that is being moved asks for nothing yet.
const REST_MS = 300;
// What no request about a clip takes, and one for a timeline may.
const TOO_LONG = new Set(["clip_too_long", "too_many_frames", "body_too_large"]);
// The browser's picture and the service's are of one shape, but for a rounded pixel.
const SAME_SHAPE = 0.03;

let model = null;
let answers = null;
let level = null;
let selection = null;
let run = null;
let following = null;
let resting = null;
let touched = false;
let put = null;

const overlay = new Overlay($("overlay"));
const strip = new Strip((seconds) => player.seek(seconds));
const timeline = new Timeline({
  seek: (seconds) => player.seek(seconds),
  query: () => choices.queryOfTimeline(model),
  failed: (problem, again) => {
    if (problem.status === 401) askForKey();
    problems.tell(problem, again);
  },
});
const labels = new Labels();
const UNPLAYABLE = "This browser cannot play the clip.";
const player = new Player(drawFrame, () =>
  standIn(run ? `${UNPLAYABLE} The service's picture of it comes with the answer.` : UNPLAYABLE));

/** Whether there is a player, or a picture in its place. */
function showPlayer(there) {
  $("screen").hidden = $("play").hidden = $("position").hidden = $("clock").hidden = !there;
  $("playback").classList.toggle("still", !there);
}

function standIn(why) {
  showPlayer(false);
  $("screen-text").textContent = why;
  showPicture();
}

function drawFrame(seconds) {
  overlay.draw(seconds);
  strip.at(seconds);
  timeline.at(seconds);
  if (!selection || !player.playable) return;
  drawSeen($("seen"), player.picture, selection, {seconds, size: model.geometry.size,
    clip: answers.clip, across: player.picture.videoWidth});
}

/** A new clip: what was known of the one before is gone. */
function take(file) {
  stop();
  problems.clear();
  answers = level = selection = null;
  overlay.clear();
  strip.clear();
  timeline.forget();
  labels.clear();
  explained.forget();
  for (const name of ["answer", "sweep-answer", "raw-part", "shown-parts", "seen-figure", "stale"]) {
    $(name).hidden = true;
  }
  $("headline").textContent = file.name;
  $("screen-text").textContent = "";
  showPlayer(true);
  $("stage").hidden = false;
  player.load(file);
  describe();
  // Where a key is wanted and not given, a request would be in vain.
  if ($("access").hidden || key()) classify();
}

function stop() {
  run?.abort();
  following?.abort();
  clearTimeout(resting);
  run = following = null;
  work.end();
  busy(false);
}

function busy(is) {
  $("stop").hidden = !is;
  $("stage").setAttribute("aria-busy", String(is));
}

async function classify() {
  const file = picking.chosenFile();
  if (!file) return void $("form").reportValidity();
  stop();
  problems.clear();
  const unknown = model ? null : await look();
  if (unknown) return unknown.status === 401 ? problems.tell(unknown) : undefined;
  const large = picking.tooLarge(file, model);
  if (large) {
    timeline.offer(file, Infinity, model);
    return problems.tell(new Problem("The clip is too large", large));
  }
  run = new AbortController();
  const from = document.activeElement;
  const asked = [choices.manner(), choices.part()];
  busy(true);
  try {
    const answer = await ask(`classify?${choices.query(model)}`, {file, signal: run.signal,
      sending: work.begin(file, "looks at the clip")});
    run = null;
    work.end();
    busy(false);
    answers = new Answers(answer, ...asked);
    showClip();
    present(answer.sparsity.used);
    // Where the clip decides, the slider shows what it decided for.
    if ($("sparsity").disabled) $("sparsity").value = level;
    markStale();
    // Not of somebody who has gone on meanwhile.
    if (document.activeElement === from) {
      $("headline").focus({preventScroll: true});
      $("stage").scrollIntoView({block: "nearest"});
    }
    say(`${$("headline").textContent}. Looked at ${answer.tokens.kept} of ${answer.tokens.total} ` +
      `tokens, in ${(1000 * answer.timing.total).toFixed(0)} milliseconds.`);
    follow(file);
  } catch (error) {
    failed(error, () => classify());
  }
}

/** Ask for the other sparsities, so that the slider has nothing to wait for. */
async function follow(file) {
  following = new AbortController();
  try {
    const sweep = await ask(`sweep?${choices.queryOfLevels(model, answers.at(level))}`,
      {file, signal: following.signal});
    following = null;
    answers.addSweep(sweep);
    showSweep(sweep);
    present(level);
    say("The other sparsities are answered.", {afterMs: 1500});
    if (!answers.at(level)) askLevel(level);
  } catch (error) {
    if (error instanceof Stopped) return;
    following = null;
    // The answer stands; the slider asks for each level by itself.
    $("labels-text").textContent = `The other sparsities were not answered: ${error.detail}`;
    if (!answers.at(level)) askLevel(level);
  }
}

/** Ask for one level that no answer is there for. */
async function askLevel(wanted) {
  const file = picking.chosenFile();
  run?.abort();
  run = new AbortController();
  try {
    const answer = await ask(`classify?${choices.queryOfLevel(model, wanted)}`,
      {file, signal: run.signal});
    run = null;
    answers.add(answer);
    if (level === wanted) present(answer.sparsity.used);
  } catch (error) {
    if (error instanceof Stopped) return;
    if (level === wanted) labels.await(wanted, false);
    failed(error, () => askLevel(wanted));
  }
}

function failed(error, again) {
  if (error instanceof Stopped) return;
  run = null;
  work.end();
  busy(false);
  if (!(error instanceof Problem)) {
    problems.tell(new Problem("Something went wrong on this page", error.message));
    throw error;
  }
  if (error.status === 401) askForKey();
  if (TOO_LONG.has(error.code)) timeline.offer(picking.chosenFile(), Infinity, model);
  if (!answers && !player.playable) $("screen-text").textContent = UNPLAYABLE;
  problems.tell(error, again);
}

/** What is the same at every sparsity of a clip. */
function showClip() {
  const {clip} = answers;
  player.lasts(clip.duration_seconds);
  timeline.offer(picking.chosenFile(), clip.duration_seconds, model);
  for (const name of ["answer", "raw-part", "stage"]) $(name).hidden = false;
  $("sweep-answer").hidden = true;
  explained.forget();
  // Some browsers turn a clip as it says and do not mirror it, or leave its pixels as they are.
  const strange = clip.mirrored ||
    Math.abs(player.aspect / (clip.width / clip.height) - 1) > SAME_SHAPE;
  if (player.playable && strange) {
    player.playable = false;
    standIn("Browsers may show this clip in another shape than it is meant to have; the service's " +
      "picture of it comes.");
  }
}

/** Show all that belongs to a sparsity level, as far as it is known. */
function present(now) {
  level = now;
  const known = answers.at(level);
  const kept = choices.keptAt(model, level);
  selection = new Selection(answers.selection, kept);
  overlay.show(selection, answers.clip);
  strip.show(answers.selection.views, answers.shares(level, kept),
    player.playable ? player.duration : answers.clip.duration_seconds);
  $("shown-parts").hidden = $("seen-figure").hidden = !player.playable;
  $("seen-text").textContent = seenText(kept);
  player.redraw();
  markLevel(level);
  const {views} = answers.first.tokens;
  chart.draw(model, level, known && known.answer.cascade == null ? known.macs / views : null);
  showPicture();
  if (!known) return void labels.await(level, true);
  $("headline").textContent = headline(known, model);
  labels.show(known);
  showStages(known);
  showStory(known);
  showRaw(known.answer);
}

function seenText(kept) {
  const {listed, views} = answers.selection;
  const {size} = model.geometry;
  const many = views.length === 1 ? "one view" : `${views.length} views`;
  const parts = [`What the model sees: ${many} of ${size} x ${size} pixels.`];
  if (kept > listed) parts.push(`Only the best ${listed} of ${kept} tokens of a view are lit; an ` +
    "explanation lists no more.");
  return parts.join(" ");
}

function showStory(known) {
  const {answer, shared, kept, total} = known;
  const {clip} = answers;
  $("choice").textContent = shared ? [`${level} was answered together with the other sparsities, ` +
    "from the same selection.", known.note].filter(Boolean).join(" ") :
    story(answer, model).join(" ");
  showLooks(shared ? null : answer.cascade);
  $("facts").textContent = `${clip.width} x ${clip.height} ${clip.codec}, ${clip.frames} frames, ` +
    `${clip.duration_seconds} s. Looked at ${kept} of ${total} tokens (sparsity ${level}), ` +
    `${billions(known.macs)} billion multiply-accumulates.`;
}

/** As text only while somebody looks at it: it may have thousands of lines. */
function showRaw(answer) {
  $("raw").textContent = $("raw-part").open ? JSON.stringify(answer, null, 1) : "";
}

async function showPicture() {
  if (player.playable || !answers || level === null) return;
  const file = picking.chosenFile();
  try {
    await explained.show(file, level, answers.part);
    $("screen-text").textContent = "The frames that were sampled; what is dark was not looked at.";
  } catch (error) {
    if (!(error instanceof Problem)) return;
    $("screen-text").textContent = `There is no picture of this clip: ${error.detail}`;
  }
}

/** The slider was moved, or another field was changed. */
function changed() {
  describe();
  clearTimeout(resting);
  if (!answers) return void drawChart();
  markStale();
  if (!switches()) return;
  const wanted = choices.levelFor(model, Number($("sparsity").value));
  if (wanted === level) return;
  present(wanted);
  const known = answers.at(wanted);
  if (known) return say(`${wanted}: ${headline(known, model)}`, {afterMs: REST_MS});
  if (!following) resting = setTimeout(() => askLevel(wanted), REST_MS);
}

/** Whether another level is one of the same answer. */
function switches() {
  return choices.sliderDecides() && String(choices.part()) === String(answers.part);
}

function markStale() {
  $("stale").hidden = switches() || choices.manner() === answers.manner;
}

/** Say what is set, beside the fields and as a request. */
function describe() {
  choices.describe(model);
  const file = picking.chosenFile();
  snippets.show({
    address: new URL("classify", document.baseURI).href,
    parameters: [...new URLSearchParams(choices.query(model))],
    name: file ? file.name : "clip.mp4",
    keyed: !$("access").hidden,
  });
}

function askForKey() {
  $("access").hidden = false;
  // A link cannot carry a key.
  $("keyless").hidden = true;
  describe();
}

/** Learn what is served; again when a key is given. What kept it from that, or null. */
async function look() {
  let known;
  try {
    known = await ask("model");
  } catch (error) {
    // That a key is wanted is no problem before one was given.
    if (error.status === 401) askForKey();
    if (error.status !== 401 || key()) problems.tell(error, look);
    return error;
  }
  problems.clear();
  const first = model === null;
  model = known;
  if (first && !touched) $("sparsity").value = model.sparsity.default;
  $("model").textContent = `Serving ${model.bundle.name} ${model.bundle.version}: ` +
    `${model.labels.length} labels, ${model.geometry.tokens} tokens a view.`;
  $("about").textContent = about(model).join(" ");
  $("about-model").hidden = false;
  choices.offer(model);
  picking.offerRecordings(model, put);
  describe();
  if (answers) present(level);
  else drawChart();
  return null;
}

/** Before there is an answer, the slider says what the choice would be. */
function drawChart() {
  if (model) chart.draw(model, choices.levelFor(model, Number($("sparsity").value)));
}

function start() {
  put = picking.listen(take);
  // Below each other, its cells would push all else away.
  $("sweep-part").open = !matchMedia("(max-width: 38rem)").matches;
  $("sparsity").addEventListener("input", () => { touched = true; });
  for (const name of ["sparsity", "views", "rule", "loss", "budget", "degrade", "start",
    "end"]) {
    $(name).addEventListener("input", changed);
  }
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    classify();
  });
  $("stop").addEventListener("click", () => {
    stop();
    say("Stopped.");
    $("go").focus();
  });
  $("dim").addEventListener("change", () => { overlay.dims = $("dim").checked; player.redraw(); });
  $("framing").addEventListener("change", () => {
    overlay.frames = $("framing").checked;
    player.redraw();
  });
  $("raw-part").addEventListener("toggle", () => { if (answers) present(level); });
  $("key").addEventListener("change", look);
  $("sparsity").value = 0.7;
  describe();
  look();
}

start();
