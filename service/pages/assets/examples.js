/**
 * Examples, drawn by the page and recorded as they are drawn. No two are alike, none has to be
 * kept anywhere, and whether they are understood is not arranged.
 */
import {$, make} from "./elements.js";
import {pause, record} from "./recording.js";

const WIDTH = 320;
const HEIGHT = 240;
const SECONDS = 2;
const FRAMES_PER_SECOND = 25;

// Where things are at a time u from 0 to 1, in units of the picture's height, from its centre.
const EXAMPLES = {
  "moving left": {slug: "moving-left", things: (u) => [{x: 0.36 - 0.72 * u, y: 0.04}]},
  falling: {slug: "falling", things: (u) => [{x: -0.08, y: -0.38 + 0.76 * u * u}]},
  "two things meeting": {slug: "two-meeting", things: (u) => {
    const apart = 0.36 - 0.27 * Math.min(1, u / 0.85);
    return [{x: -apart, y: 0.1}, {x: apart, y: 0.1}];
  }},
};

/** Numbers from 0 to 1 that a seed decides (mulberry32). */
function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A still picture of soft spots, and things that stand in it and do nothing. */
function background(random) {
  const canvas = make("canvas", {width: WIDTH, height: HEIGHT});
  const context = canvas.getContext("2d");
  const hue = 360 * random();
  context.fillStyle = `hsl(${hue} 25% 45%)`;
  context.fillRect(0, 0, WIDTH, HEIGHT);
  for (let spot = 0; spot < 60; spot += 1) {
    const [x, y, radius] = [WIDTH * random(), HEIGHT * random(), 10 + 40 * random()];
    const shade = context.createRadialGradient(x, y, 0, x, y, radius);
    const colour = `${hue + 50 * (random() - 0.5)} 30% ${25 + 40 * random()}%`;
    shade.addColorStop(0, `hsl(${colour} / .6)`);
    shade.addColorStop(1, `hsl(${colour} / 0)`);
    context.fillStyle = shade;
    context.fillRect(0, 0, WIDTH, HEIGHT);
  }
  for (const [x, y] of [[-0.5, -0.36], [0.52, 0.38]]) {
    draw(context, look(random, hue), {x: x + 0.06 * random(), y: y + 0.06 * random()});
  }
  return {canvas, hue};
}

/** How a thing looks: a polygon or a disc of a colour that stands out. */
function look(random, hue) {
  return {
    corners: [0, 3, 4, 5, 6][Math.floor(5 * random())],
    size: 0.1 + 0.02 * random(),
    turn: 2 * Math.PI * random(),
    colour: `hsl(${hue + 120 + 120 * random()} 75% ${50 + 15 * random()}%)`,
    spot: `hsl(${hue + 300 * random()} 70% 30%)`,
  };
}

function draw(context, {corners, size, turn, colour, spot}, {x, y}) {
  const [left, top, radius] = [WIDTH / 2 + HEIGHT * x, HEIGHT / 2 + HEIGHT * y, HEIGHT * size];
  context.beginPath();
  if (corners === 0) context.arc(left, top, radius, 0, 2 * Math.PI);
  for (let corner = 0; corner < corners; corner += 1) {
    const angle = turn + 2 * Math.PI * corner / corners;
    context.lineTo(left + radius * Math.cos(angle), top + radius * Math.sin(angle));
  }
  context.closePath();
  context.fillStyle = colour;
  context.fill();
  context.beginPath();
  context.arc(left, top, radius * 0.35, 0, 2 * Math.PI);
  context.fillStyle = spot;
  context.fill();
}

/**
 * Draw and record an example; it takes as long as it lasts.
 *
 * @param {string} name a key of `EXAMPLES`
 * @param {object} format of :func:`formatFor`
 * @param {number} seed of what things and ground look like
 * @returns {Promise<File>}
 */
export async function render(name, format, seed = Math.floor(2 ** 32 * Math.random())) {
  const {slug, things} = EXAMPLES[name];
  const random = randomFrom(seed);
  const {canvas: ground, hue} = background(random);
  const looks = things(0).map(() => look(random, hue));
  const canvas = make("canvas", {width: WIDTH, height: HEIGHT});
  const context = canvas.getContext("2d");
  const show = (u) => {
    context.drawImage(ground, 0, 0);
    things(u).forEach((place, at) => draw(context, looks[at], place));
  };
  show(0);
  const stream = canvas.captureStream(FRAMES_PER_SECOND);
  const done = async () => {
    // By the clock: a busy machine draws fewer frames, and the thing is where it belongs.
    const started = performance.now();
    for (let u = 0; u < 1; u = (performance.now() - started) / (1000 * SECONDS)) {
      show(u);
      await pause(1000 / FRAMES_PER_SECOND);
    }
  };
  try {
    return await record(stream, {format, name: slug, done});
  } finally {
    for (const track of stream.getTracks()) track.stop();
  }
}

/** Offer a button for each example. */
export function offer(choose) {
  const label = $("examples-label");
  $("examples").replaceChildren(label, ...Object.keys(EXAMPLES).map((name) => {
    const button = make("button", {type: "button", className: "second", textContent: name});
    button.addEventListener("click", () => choose(name));
    return button;
  }));
  $("examples").hidden = false;
}
