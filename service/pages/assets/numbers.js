/** Numbers as people read them. */

export const percent = (share) => `${(100 * share).toFixed(1)} %`;
// Rounded down, so that a lead which is not enough never reads as if it were.
export const points = (lead) => `${Math.floor(1000 * lead + 1e-6) / 10} points`;

export const milliseconds = (seconds) => `${(1000 * seconds).toFixed(1)} ms`;

export const billions = (macs) => macs < 1e7 ? String(Number((macs / 1e9).toPrecision(2))) :
  (macs / 1e9).toFixed(2);
