/** What is known of the clip at hand, by sparsity level. */

export class Answers {
  /**
   * @param {object} classification what `/classify` answered, with an explanation
   * @param {string} manner of :func:`manner`, as it was asked for
   * @param {string[][]} part of :func:`part`, as it was asked for
   */
  constructor(classification, manner, part) {
    Object.assign(this, {manner, part});
    this.clip = classification.clip;
    this.first = classification;
    this.sweep = null;
    this._levels = new Map();
    this.selection = classification.explanation;
    this.add(classification);
  }

  /** Add what `/classify` answered at one more level. */
  add(classification) {
    const {labels, unknown, sparsity, tokens, macs, timing} = classification;
    this._levels.set(sparsity.used, {
      level: sparsity.used, labels, unknown, macs, timing, note: sparsity.note,
      kept: tokens.kept, total: tokens.total, answer: classification, shared: false,
    });
    this._learn(classification.explanation);
  }

  /** Add what `/sweep` answered. A level that was asked for by itself keeps that answer. */
  addSweep(sweep) {
    this.sweep = sweep;
    const {points, tokens, timing, macs} = sweep;
    const selector = macs - points.reduce((sum, point) => sum + point.macs, 0);
    for (const point of points) {
      if (this._levels.has(point.used)) continue;
      this._levels.set(point.used, {
        level: point.used, labels: point.labels, unknown: point.unknown, note: point.note,
        macs: selector + point.macs, timing: {...timing, extract: point.extract_seconds},
        kept: point.tokens, total: tokens.total, answer: sweep, shared: true,
      });
    }
    this._learn(sweep.explanation);
  }

  /** What was answered at a level; null where nothing was yet. */
  at(level) {
    return this._levels.get(level) ?? null;
  }

  get levels() {
    return [...this._levels.keys()].sort((one, other) => one - other);
  }

  /** The list of tokens stands in the order of rank, so that the longest serves every level. */
  _learn(explanation) {
    const {extractions, listed} = this.selection;
    const known = [...explanation.extractions, ...extractions];
    this.selection = {
      ...(explanation.listed > listed ? explanation : this.selection),
      extractions: known.filter(({sparsity}, at) =>
        known.findIndex((other) => other.sparsity === sparsity) === at),
    };
  }

  /**
   * How the tokens of each view spread over its steps at a level; null where that is not known.
   *
   * @param {number} kept K tokens of a view
   */
  shares(level, kept) {
    const {extractions, listed, views, grid} = this.selection;
    const made = extractions.find(({sparsity}) => sparsity === level);
    if (made) return made.shares;
    if (kept > listed) return null;
    return views.map(({tokens}) => {
      const counts = new Array(grid.steps).fill(0);
      for (const {step} of tokens.slice(0, kept)) counts[step] += 1;
      return counts.map((count) => count / kept);
    });
  }
}
