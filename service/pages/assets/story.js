/** How the sparsity of an answer came about, in sentences. */
import {percent, points} from "./numbers.js";

const WHY_SPARSER = {
  requests: "too many requests were under way",
  tokens: "too many tokens were under way",
  wait: "too much was waiting",
  budget: "more would not have kept the budget",
};

/** How the sparsity of an answer came about: a list of sentences. */
export function story(answer, model = null) {
  const {sparsity, coverage, loss, budget, cascade, cache, unknown} = answer;
  const said = [];
  if (cascade) said.push(...storyOfCascade(sparsity, cascade, model));
  else if (coverage) said.push(storyOfClip(sparsity, coverage));
  else if (loss) said.push(storyOfLoss(sparsity, loss));
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
  if (unknown) said.push("Nothing seems to happen that there is a label for: it is unknown.");
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

// Added to, a negative zero is none.
const tenths = (value) => (Math.round(10 * value) / 10 + 0).toFixed(1);

function storyOfLoss({used, degraded, reason}, {asked, sparsity, points: lost, low, high, clips}) {
  const measured = `At ${sparsity}, ${tenths(lost)} points of top-1 were lost on ${clips} ` +
    `held-out clips (95 %: ${tenths(low)} to ${tenths(high)}), and ${asked} are allowed`;
  return degraded ? `${measured}; ${used} was used, because ${WHY_SPARSER[reason]}.` :
    `${measured}: ${used} was used.`;
}

/** How clear an answer is: of labels that exclude each other, by how much the first one leads. */
function clearness(margin, model) {
  return model && model.answer.kind === "sigmoid" ?
    `the label nearest to its threshold is ${points(margin)} clear of it` :
    `the first label leads by ${points(margin)}`;
}

function storyOfCascade({asked, used, degraded, reason}, {margin, steps, stopped}, model) {
  const last = steps[steps.length - 1];
  const looks = steps.length === 1 ? `There was one look, at ${used}` :
    `There were ${steps.length} looks, from ${steps[0].sparsity} to ${used}`;
  const bound = asked === null ? "Looks may become as dense as the model was trained for." :
    `Looks may become as dense as a sparsity of ${asked}.`;
  if (stopped === "margin") {
    return [bound, `${looks}: ${clearness(last.margin, model)}, and ` +
      `${points(margin)} are enough.`];
  }
  let why = "this is the densest look allowed";
  if (stopped === "budget") why = "a denser look would not have kept the budget";
  else if (degraded) why = `denser looks were left out, because ${WHY_SPARSER[reason]}`;
  return [bound, `${looks}: ${clearness(last.margin, model)}, ` +
    `${points(margin)} would be enough, but ${why}.`];
}
