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
    this.playable = false;
    this._video.addEventListener("loadedmetadata", () => {
      this.playable = this._video.videoWidth > 0;
      if (!this.playable) return onUnplayable();
      this._fit(this._video.videoWidth, this._video.videoHeight);
      this._range();
      if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this._play();
    });
    this._video.addEventListener("error", () => {
      // A clip that was taken away is no error.
      if (!this._video.getAttribute("src")) return;
      this.playable = false;
      onUnplayable();
    });
    for (const name of ["seeked", "loadeddata", "timeupdate"]) {
      this._video.addEventListener(name, () => this._shown(this._video.currentTime));
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

  get seconds() {
    return this._video.currentTime;
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
  }

  unload() {
    this._video.removeAttribute("src");
    this._video.load();
    if (this._address) URL.revokeObjectURL(this._address);
    this._address = null;
    this._known = 0;
    this.playable = false;
  }

  /** Tell how long the clip lasts: recordings of a browser do not say it themselves. */
  lasts(seconds) {
    this._known = seconds;
    this._range();
  }

  seek(seconds) {
    this._video.pause();
    this._video.currentTime = seconds;
  }

  redraw() {
    if (this.playable) this._shown(this._video.currentTime);
  }

  get duration() {
    return Number.isFinite(this._video.duration) ? this._video.duration : this._known;
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
      if (!this._video.paused) this._shown(this._video.currentTime);
      requestAnimationFrame(next);
    };
    requestAnimationFrame(next);
  }

  _shown(seconds) {
    $("position").value = seconds;
    const clock = `${seconds.toFixed(2)} s`;
    $("clock").textContent = clock;
    $("position").setAttribute("aria-valuetext", clock);
    this._onFrame(seconds);
  }
}
