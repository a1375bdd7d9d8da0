/** The labels of the present sparsity. */
import {Bars} from "./bars.js";
import {$} from "./elements.js";
import {milliseconds, percent} from "./numbers.js";

// How many labels have a place from the start.
const SHOWN = 5;

export class Labels {
  constructor() {
    this._bars = new Bars($("labels"));
  }

  clear() {
    this._bars.clear();
    $("labels-text").textContent = "";
  }

  /**
   * Show an answer. The labels of the first one have their places for good; one that becomes the
   * best at another sparsity gets the next.
   *
   * @param {object} known an entry of `Answers`
   */
  show({labels, level}) {
    const places = new Set(this._bars.names);
    if (places.size === 0) for (const {label} of labels.slice(0, SHOWN)) places.add(label);
    places.add(labels[0].label);
    const found = new Map(labels.map((label) => [label.label, label]));
    const least = labels[labels.length - 1].score;
    this._bars.show([...places].map((name) => {
      const {score, above_threshold: there} = found.get(name) ?? {score: null};
      return {
        name,
        share: score ?? least,
        text: score === null ? `< ${percent(least)}` : percent(score) + (there ? ", there" : ""),
        best: name === labels[0].label,
      };
    }));
    $("labels").classList.remove("awaited");
    $("labels-text").textContent = `At a sparsity of ${level}.`;
  }

  /** Say that the labels shown are not those of a level, which are on their way or are not. */
  await(level, asked) {
    $("labels").classList.add("awaited");
    $("labels-text").textContent = asked ? `The labels at ${level} are being asked for.` :
      `The labels at ${level} were not answered.`;
  }
}

/** What an answer is in a few words. */
export function headline({labels, unknown}, model) {
  const [best] = labels;
  const named = `${best.label}, ${percent(best.score)}`;
  if (unknown) return `unknown; nearest is ${named}`;
  if (model?.answer.kind !== "sigmoid") return named;
  const there = labels.filter(({above_threshold: above}) => above);
  if (there.length === 0) return `no label is there; nearest is ${named}`;
  return there.map(({label, score}) => `${label}, ${percent(score)}`).join("; ");
}

const stages = new Bars($("stages"));

/** Show the time of each stage, in the order in which they follow each other. */
export function showStages({timing, shared}) {
  const {total, ...parts} = timing;
  const most = Math.max(...Object.values(parts), 1e-9);
  stages.show(Object.entries(parts).map(([name, seconds]) =>
    ({name, share: seconds / most, text: milliseconds(seconds)})));
  $("stages-text").textContent = shared ?
    "Several sparsities were answered together: extract is the time of this one, the other stages " +
    "were shared." : `${(1000 * total).toFixed(0)} ms in all.`;
}
