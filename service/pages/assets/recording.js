/** A few seconds of a stream, as a file: what the camera sees, or what the page itself draws. */

// In the order of preference: of MP4 some browsers write the whole before its table of contents.
const FORMATS = [
  {type: "video/webm;codecs=vp8", container: "webm", suffix: "webm"},
  {type: "video/webm", container: "webm", suffix: "webm"},
  {type: "video/mp4", container: "mp4", suffix: "mp4"},
];
const BITS_PER_SECOND = 4e6;

/** The format that this browser writes and the service accepts; undefined where there is none. */
export function formatFor(containers) {
  if (!window.MediaRecorder) return undefined;
  return FORMATS.find(({type, container}) =>
    containers.includes(container) && MediaRecorder.isTypeSupported(type));
}

/**
 * @param {MediaStream} stream
 * @param {object} how `format`, `name` of the file without its suffix, `done` resolves when it
 *   has lasted long enough
 * @returns {Promise<File>}
 */
export async function record(stream, {format, name, done}) {
  const recorder = new MediaRecorder(stream,
    {mimeType: format.type, videoBitsPerSecond: BITS_PER_SECOND});
  const pieces = [];
  const stopped = new Promise((resolve, reject) => {
    recorder.ondataavailable = ({data}) => { if (data.size) pieces.push(data); };
    recorder.onstop = resolve;
    recorder.onerror = ({error}) => reject(error);
  });
  recorder.start();
  await done();
  if (recorder.state !== "inactive") recorder.stop();
  await stopped;
  const type = format.type.split(";")[0];
  return new File(pieces, `${name}.${format.suffix}`, {type});
}

export const pause = (milliseconds) =>
  new Promise((resolve) => { setTimeout(resolve, milliseconds); });
