/** Accuracy and cost of the loaded model over sparsity, with a dot at the present choice. */
import {$} from "./elements.js";
import {billions, percent} from "./numbers.js";

const WIDTH = 360;
const LEFT = 54;
const RIGHT = 14;
// Two panels share the axis of sparsity: two scales on one panel can be made to say anything.
const PANELS = {accuracy: {top: 22, height: 92}, cost: {top: 150, height: 72}};
const HEIGHT = 264;

const svg = (tag, attributes, text = null) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== null) element.textContent = text;
  return element;
};

const across = (sparsity) => LEFT + (WIDTH - LEFT - RIGHT) * sparsity;

/** Accuracy at the precision that is served. Where none was measured at it, fp32 stands in. */
function measured({accuracy, engine}) {
  const at = (wanted) => accuracy.filter(({precision}) => precision === wanted);
  const served = at(engine.precision);
  return (served.length ? served : at("fp32")).toSorted((one, other) =>
    one.sparsity - other.sparsity);
}

/** A round number of tenths below the least accuracy, so that differences can be seen. */
function floorOf(points) {
  const least = Math.min(...points.map(({top1}) => top1));
  return Math.max(0, Math.floor(10 * (least - 0.02)) / 10);
}

/**
 * Draw the chart, and say it in words.
 *
 * @param {object} model what /model answers
 * @param {number} level the present choice
 * @param {number | null} macs what it cost, where it is known
 */
export function draw(model, level, macs = null) {
  const points = measured(model);
  const costs = model.sparsity.levels;
  const cost = macs ?? costs.find(({sparsity}) => sparsity === level)?.macs ?? null;
  const picture = svg("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
    "aria-labelledby": "chart-text"});
  const low = Math.max(0, model.sparsity.lowest);
  picture.append(svg("rect", {class: "range", x: across(low), y: PANELS.accuracy.top,
    width: across(model.sparsity.highest) - across(low),
    height: PANELS.cost.top + PANELS.cost.height - PANELS.accuracy.top}));
  drawAccuracy(picture, points, level);
  drawCost(picture, costs, cost, level);
  const bottom = PANELS.cost.top + PANELS.cost.height;
  for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
    picture.append(svg("text", {class: "tick", x: across(tick), y: bottom + 17,
      "text-anchor": "middle"}, tick));
  }
  picture.append(svg("text", {class: "tick", x: across(0.5), y: bottom + 34,
    "text-anchor": "middle"}, "sparsity"));
  picture.append(svg("line", {class: "present", x1: across(level), x2: across(level),
    y1: PANELS.accuracy.top, y2: bottom}));
  // What lies on the line comes last.
  for (const dot of picture.querySelectorAll(".dot")) picture.append(dot);
  $("chart").replaceChildren(picture);
  $("chart-text").textContent = inWords(model, points, level, cost);
  $("worth").hidden = false;
}

function panel(picture, {top, height}, title, labels) {
  picture.append(svg("text", {class: "title", x: LEFT, y: top - 8}, title));
  for (const [share, text] of labels) {
    const y = top + height * (1 - share);
    picture.append(svg("line", {class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y}));
    picture.append(svg("text", {class: "tick", x: LEFT - 6, y: y + 4.5, "text-anchor": "end"}, text));
  }
}

function drawAccuracy(picture, points, level) {
  const {top, height} = PANELS.accuracy;
  const floor = points.length ? floorOf(points) : 0;
  const up = (top1) => top + height * (1 - (top1 - floor) / (1 - floor));
  panel(picture, PANELS.accuracy, "accuracy (top-1)",
    [[0, percent(floor)], [1, "100 %"]].map(([share, text]) => [share, text.replace(".0", "")]));
  if (points.length === 0) {
    picture.append(svg("text", {class: "none", x: across(0.5), y: top + height / 2,
      "text-anchor": "middle"}, "not measured"));
    return;
  }
  picture.append(svg("polyline", {class: "line",
    points: points.map(({sparsity, top1}) => `${across(sparsity)},${up(top1)}`).join(" ")}));
  for (const {sparsity, top1} of points) {
    const present = sparsity === level;
    picture.append(svg("circle", {class: present ? "dot" : "point", cx: across(sparsity),
      cy: up(top1), r: present ? 5.5 : 2.5}));
  }
}

function drawCost(picture, costs, cost, level) {
  const {top, height} = PANELS.cost;
  const most = Math.max(...costs.map(({macs}) => macs), cost ?? 0);
  const up = (macs) => top + height * (1 - macs / most);
  panel(picture, PANELS.cost, "cost of a view (GMACs)",
    [[0, "0"], [1, billions(most)]]);
  const known = cost === null ? costs : [...costs, {sparsity: level, macs: cost}];
  const sorted = known.toSorted((one, other) => one.sparsity - other.sparsity);
  picture.append(svg("polyline", {class: "line",
    points: sorted.map(({sparsity, macs}) => `${across(sparsity)},${up(macs)}`).join(" ")}));
  if (cost === null) return;
  picture.append(svg("circle", {class: "dot", cx: across(level), cy: up(cost), r: 5.5}));
}

function inWords(model, points, level, cost) {
  const said = [];
  const here = points.find(({sparsity}) => sparsity === level);
  if (here) {
    said.push(`At ${level} the model was right in ${percent(here.top1)} of ${here.clips} ` +
      "held-out clips.");
  } else if (points.length === 0) {
    said.push("Its accuracy was not measured.");
  } else {
    const near = points.toSorted((one, other) =>
      Math.abs(one.sparsity - level) - Math.abs(other.sparsity - level))[0];
    said.push(`Its accuracy was not measured at ${level}; the nearest is ` +
      `${percent(near.top1)} at ${near.sparsity}.`);
  }
  if (points.length && points[0].precision !== model.engine.precision) {
    said.push(`That was in ${points[0].precision}; ${model.engine.precision} is served.`);
  }
  const dense = model.sparsity.levels.find(({sparsity}) => sparsity === 0);
  if (cost !== null && dense) {
    said.push(`A view costs ${billions(cost)} billion multiply-accumulates, ` +
      `${percent(cost / dense.macs)} of a dense one.`);
  }
  said.push("The shaded sparsities are those it is meant for.");
  return said.join(" ");
}
