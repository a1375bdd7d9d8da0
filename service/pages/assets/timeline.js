/** What happens when in a long clip: segments on a track for each label, drawn while they come. */
import {say} from "./announce.js";
import {$, make} from "./elements.js";
import {billions, percent} from "./numbers.js";
import {askLines, Problem, Stopped} from "./service.js";

// Beyond these a browser becomes slow, and nobody finds anything.
const MOST_DRAWN = 1000;
// A clip that is hardly longer than a window has no timeline.
const LEAST_WINDOWS = 1.5;

/** A time as people read it: 1:02.5, or 1:02:03.5 from an hour on. */
function clock(seconds) {
  const tenths = Math.round(10 * seconds);
  const [hours, minutes] = [Math.floor(tenths / 36000), Math.floor(tenths / 600) % 60];
  const rest = (tenths % 600 / 10).toFixed(1).padStart(4, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

const many = (count, name) => `${count} ${name}${count === 1 ? "" : "s"}`;

export class Timeline {
  /**
   * @param {object} page `seek(seconds)` shows a time of the clip; `query()` is what is asked for;
   *   `failed(problem, again)` tells what went wrong
   */
  constructor(page) {
    this._page = page;
    this._run = null;
    $("timeline-go").addEventListener("click", () => this.look());
    $("timeline-stop").addEventListener("click", () => this._stopped());
    $("tracks").addEventListener("keydown", (event) => this._move(event));
    this.forget();
  }

  /** Another clip, or none: nothing is known, and what still comes is not wanted. */
  forget() {
    this._run?.abort();
    this._run = this._file = this._duration = null;
    this._clear();
    this._busy(false);
    $("timeline").hidden = true;
  }

  /**
   * Offer to go through a clip, if it is longer than what the model sees at once.
   *
   * @param {File} file
   * @param {number} seconds that it lasts; Infinity where it is too long to know
   * @param {object} model
   */
  offer(file, seconds, model) {
    const window = model.timeline_window_seconds;
    if (seconds <= LEAST_WINDOWS * window) return;
    this._file = file;
    this._most = model.limits.timeline_max_body_bytes;
    if (Number.isFinite(seconds)) this._duration = seconds;
    $("timeline-hint").textContent = "The labels are those of the clip as a whole. A timeline " +
      `looks at ${Number(window.toPrecision(3))} s at a time, and says what happens when.`;
    $("timeline").hidden = false;
  }

  /** Go through the clip. */
  async look() {
    const file = this._file;
    this._run?.abort();
    this._clear();
    if (file.size > this._most) {
      return this._page.failed(new Problem("The video is too large", "A timeline takes files of " +
        `up to ${(this._most / 1e6).toFixed(0)} MB, and this one has ` +
        `${(file.size / 1e6).toFixed(0)} MB.`));
    }
    const run = this._run = new AbortController();
    this._busy(true);
    this._tell("Sending the video", 0);
    say("Sending the video for its timeline.");
    $("timeline-stop").focus();
    try {
      await askLines(`timeline?${this._page.query()}`, {file, signal: run.signal,
        sending: (share) => this._sent(share), line: (line) => this._take(line)});
      if (!this._done) throw new Problem("The timeline is not whole", "The connection ended " +
        `before the video did${this._found.length ? "; what was found until then is shown" : ""}.`);
    } catch (error) {
      if (error instanceof Stopped || run !== this._run) return;
      this._ended(`Ended at ${clock(this._reached)}.`);
      if (!(error instanceof Problem)) throw error;
      return this._page.failed(error, () => this.look());
    }
    this._ended(this._summary());
  }

  /** Say and mark what there is at a time of the clip. */
  at(seconds) {
    if (!this._length) return;
    for (const {head} of this._tracks.values()) {
      head.style.left = `${100 * Math.min(1, seconds / this._length)}%`;
    }
    const now = this._found.filter(({start, end}) => start <= seconds && seconds < end);
    for (const {button} of this._found) button.removeAttribute("aria-current");
    for (const {button} of now) button.setAttribute("aria-current", "true");
    $("timeline-now").textContent = now.length ? `${clock(seconds)}: ` +
      now.map(({label, score}) => `${label} (${percent(score)})`).join(", ") : "";
  }

  /** How long the line is that segments lie on. */
  get _length() {
    return Math.max(this._duration ?? 0, this._reached);
  }

  _clear() {
    this._tracks = new Map();
    this._found = [];
    this._done = null;
    this._reached = this._hidden = 0;
    $("tracks").replaceChildren();
    for (const name of ["timeline-text", "timeline-now"]) $(name).textContent = "";
  }

  _busy(is) {
    $("timeline-go").hidden = is;
    $("timeline-stop").hidden = $("timeline-progress").hidden = !is;
    $("timeline").setAttribute("aria-busy", String(is));
  }

  _tell(text, share) {
    $("timeline-text").textContent = text;
    if (share === null) $("timeline-progress").removeAttribute("value");
    else $("timeline-progress").value = share;
  }

  _sent(share) {
    if (share < 1) this._tell(`Sending the video: ${Math.floor(100 * share)} %`, share);
    else if (!this._reached) this._tell("Sent. The service begins to look.", null);
  }

  _take({begun, window, segment, done}) {
    if (begun) this._duration ??= begun.video.duration_seconds;
    if (window) {
      this._reach(window.end_seconds);
      this._tell(`Looked at ${clock(this._reached)}${this._duration ?
        ` of ${clock(this._length)}` : ""}: ${many(this._found.length, "segment")}`,
      this._duration ? this._reached / this._length : null);
    }
    if (segment) this._draw(segment);
    if (done) this._done = done;
  }

  _reach(seconds) {
    const before = this._length;
    this._reached = Math.max(this._reached, seconds);
    if (this._length !== before) this._found.forEach((found) => this._place(found));
  }

  _draw({label, score, start_seconds: start, end_seconds: end}) {
    if (this._found.length === MOST_DRAWN) {
      this._hidden += 1;
      return;
    }
    this._reach(end);
    const told = `${label}, ${clock(start)} to ${clock(end)}, ${percent(score)}`;
    const button = make("button", {type: "button", className: "segment", title: told,
      tabIndex: this._found.length ? -1 : 0});
    button.setAttribute("aria-label", told);
    const found = {label, score, start, end, button};
    button.addEventListener("click", () => {
      this._page.seek(start);
      this._hold(found);
    });
    this._found.push(found);
    this._track(label).append(button);
    this._place(found);
  }

  _place({start, end, button}) {
    button.style.left = `${100 * start / this._length}%`;
    button.style.width = `${100 * (end - start) / this._length}%`;
  }

  /** The track of a label; labels stand in the order in which they first happen. */
  _track(label) {
    if (!this._tracks.has(label)) {
      const track = make("div", {className: "track"});
      const head = make("div", {className: "head"});
      track.append(head);
      this._tracks.set(label, {track, head});
      $("tracks").append(make("div", {className: "lane"}, make("span", {textContent: label}), track));
    }
    return this._tracks.get(label).track;
  }

  /** One stop of the tabulator for all segments; arrows go from one to the next by time. */
  _move(event) {
    const at = this._found.findIndex(({button}) => button === document.activeElement);
    const last = this._found.length - 1;
    const to = {ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0,
      End: last}[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const found = this._found[Math.min(last, Math.max(0, to))];
    this._hold(found);
    found.button.focus();
  }

  _hold(found) {
    for (const {button} of this._found) button.tabIndex = button === found.button ? 0 : -1;
  }

  _stopped() {
    this._run?.abort();
    this._ended(`Stopped at ${clock(this._reached)}; what was found until then stays.`);
  }

  _ended(text) {
    const held = $("timeline").contains(document.activeElement) ||
      document.activeElement === document.body;
    this._run = null;
    this._busy(false);
    $("timeline-text").textContent = text;
    say(text);
    // The button to stop it is gone, and with it the focus of whoever waited there.
    if (held && !$("tracks").contains(document.activeElement)) $("timeline-go").focus();
  }

  _summary() {
    const {windows, tokens, macs, cuts, lost_windows: lost} = this._done;
    const parts = [this._found.length ?
      `${many(this._found.length + this._hidden, "segment")} in ${many(windows, "window")}.` :
      `In none of ${many(windows, "window")} a label was certain enough for a segment.`];
    if (this._hidden) parts.push(`Only the first ${MOST_DRAWN} are drawn.`);
    if (cuts) parts.push(`${many(cuts, "hard cut")} part the video into shots.`);
    if (lost) parts.push(`${many(lost, "window")} could not be decoded.`);
    parts.push(`Looked at ${tokens} tokens, ${billions(macs)} billion multiply-accumulates.`);
    return parts.join(" ");
  }
}
