/** What a visitor should know of the model. */
import {billions, percent} from "./numbers.js";

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

/** A list of sentences. */
export function about({selector, sampling, answer, sparsity, rivals, licence, source}) {
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
    said.push(`For ${billions(macs)} billion multiply-accumulates, ${name} is right in ` +
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
