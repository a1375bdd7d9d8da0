/** The clip as it plays. It never leaves the browser for that: it is played from memory. */
import {$} from "./elements.js";

const POSITION_STEPS = 0.01;

export class Player {
  /**
   * @param {(seconds: number) => void} onFrame told of the time as it passes
   * @param {() => void} onUnplayable told when the browser cannot play a clip
   */
  constructor(onFrame, onUnplayable) {
    this._video = $("video");
    this._onFrame = onFrame;
    this._address = null;
    this._known = 0;
    this._begin = 0;
    this.playable = false;
    this._video.addEventListener("loadedmetadata", () => {
      this.playable = this._video.videoWidth > 0;
      if (!this.playable) return onUnplayable();
      this._fit(this._video.videoWidth, this._video.videoHeight);
      this._range();
    });
    if (!this._video.requestVideoFrameCallback) {
      this._video.addEventListener("loadeddata", () => this._start());
    }
    this._video.addEventListener("error", () => {
      // A clip that was taken away is no error.
      if (!this._video.getAttribute("src")) return;
      this.playable = false;
      onUnplayable();
    });
    for (const name of ["seeked", "timeupdate"]) {
      this._video.addEventListener(name, () => this._shown());
    }
    for (const name of ["play", "pause"]) {
      this._video.addEventListener(name, () => {
        $("play").textContent = this._video.paused ? "Play" : "Pause";
      });
    }
    $("play").addEventListener("click", () =>
      this._video.paused ? this._play() : this._video.pause());
    $("screen").addEventListener("click", () => $("play").click());
    $("position").addEventListener("input", () => this.seek(Number($("position").value)));
    new ResizeObserver(() => this.redraw()).observe($("overlay"));
    this._follow();
  }

  get picture() {
    return this._video;
  }

  /** After the first frame shown, as the service counts. */
  get seconds() {
    return Math.max(0, this._video.currentTime - this._begin);
  }

  /** Width by height of the clip as the browser shows it. */
  get aspect() {
    return this._video.videoWidth / this._video.videoHeight;
  }

  /** @param {Blob} clip */
  load(clip) {
    this.unload();
    this._address = URL.createObjectURL(clip);
    this._video.src = this._address;
    // Played as soon as somebody sees it, and not before its first frame has told when it is.
    this._waiting = this._video.requestVideoFrameCallback?.((_, frame) => {
      this._findBegin(frame.mediaTime);
      this._start();
    });
  }

  unload() {
    if (this._waiting) this._video.cancelVideoFrameCallback(this._waiting);
    this._video.removeAttribute("src");
    this._video.load();
    if (this._address) URL.revokeObjectURL(this._address);
    this._address = null;
    this._known = this._begin = 0;
    this.playable = false;
  }

  /** Tell how long the clip lasts: recordings of a browser do not say it themselves. */
  lasts(seconds) {
    this._known = seconds;
    this._range();
  }

  seek(seconds) {
    this._video.pause();
    this._video.currentTime = seconds + this._begin;
  }

  redraw() {
    if (this.playable) this._shown();
  }

  get duration() {
    const {duration} = this._video;
    return Number.isFinite(duration) ? duration - this._begin : this._known;
  }

  /** Some files begin later than at 0, and browsers wait for their first frame until then. */
  _findBegin(mediaTime) {
    // Somebody has sought another frame before the first one was seen.
    if (this._video.currentTime > mediaTime) return;
    this._begin = mediaTime;
    this._range();
    this._shown();
  }

  _start() {
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this._play();
  }

  _play() {
    // A browser may refuse to play what nobody asked for; the button is there then.
    this._video.play().catch(() => {});
  }

  _fit(width, height) {
    $("screen").style.aspectRatio = `${width} / ${height}`;
    // A clip that stands upright would be higher than the window.
    $("screen").style.maxWidth = `min(100%, calc(60vh * ${width / height}))`;
  }

  _range() {
    $("position").max = this.duration;
    $("position").step = POSITION_STEPS;
  }

  /**
   * By the clock, not by frames: of two steps within one frame's time, each is the nearest for a
   * part of it.
   */
  _follow() {
    const next = () => {
      if (!this._video.paused) this._shown();
      requestAnimationFrame(next);
    };
    requestAnimationFrame(next);
  }

  _shown() {
    const {seconds} = this;
    $("position").value = seconds;
    const clock = `${seconds.toFixed(2)} s`;
    $("clock").textContent = clock;
    $("position").setAttribute("aria-valuetext", clock);
    this._onFrame(seconds);
  }
}
