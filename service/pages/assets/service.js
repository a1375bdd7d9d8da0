/** Requests to the service, and whatever else answers in its place. */
import {$} from "./elements.js";

/** What went wrong, as a person would tell it. */
export class Problem extends Error {
  /**
   * @param {string} title what happened
   * @param {string} detail which value, which limit
   * @param {object} more `status`, `code` of the problem document, `retryAfter` in seconds
   */
  constructor(title, detail, {status = 0, code = null, retryAfter = null} = {}) {
    super(`${title}\n${detail}`);
    Object.assign(this, {title, detail, status, code, retryAfter});
  }
}

/** Thrown where the page itself stopped a request. */
export class Stopped extends Error {}

export const key = () => $("key").value.trim();

/**
 * Ask the service. XMLHttpRequest, because fetch tells nothing of an upload's progress.
 *
 * @param {string} path relative, so that the page works below any prefix
 * @param {object} how `file` is sent as a form; `blob` wants a file back; `signal` stops it;
 *   `sending` is told the share that was sent, 0 to 1
 * @returns what was answered: an object, or a Blob
 * @throws {Problem} anything but a good answer; {Stopped}
 */
export function ask(path, how = {}) {
  const {blob = false} = how;
  return exchange(path, how, "blob", (request) => understood(request, blob));
}

/**
 * Ask for an answer of many lines, each a document, which are told while they come.
 *
 * @param {string} path
 * @param {object} how as for `ask`; `line` is told each document
 * @throws {Problem} also one that comes as a line; {Stopped}
 */
export function askLines(path, how) {
  let read = 0;
  const good = ({status}) => status >= 200 && status < 300;
  const take = (request) => {
    const whole = request.responseText.lastIndexOf("\n") + 1;
    for (const text of request.responseText.slice(read, whole).split("\n").filter(Boolean)) {
      const document = JSON.parse(text);
      if (document.title && document.detail) throw new Problem(document.title, document.detail, document);
      how.line(document);
    }
    read = whole;
  };
  return exchange(path, how, "text", async (request) => {
    if (!good(request)) return understood(request, false);
    take(request);
  }, (request) => { if (good(request)) take(request); });
}

function exchange(path, {file = null, signal = null, sending = null}, type, end, part = null) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(file ? "POST" : "GET", path);
    request.responseType = type;
    if (key()) request.setRequestHeader("authorization", `Bearer ${key()}`);
    let sent = 0;
    request.upload.onprogress = ({loaded, total}) => {
      sent = loaded;
      sending?.(total ? loaded / total : 0);
    };
    request.upload.onload = () => sending?.(1);
    request.onerror = () => reject(unreachable(sent));
    request.onabort = () => reject(new Stopped());
    request.onprogress = () => {
      try {
        if (!signal?.aborted) part?.(request);
      } catch (error) {
        reject(error);
        request.abort();
      }
    };
    request.onload = () => end(request).then((answer) => {
      // Stopped while the answer was being read.
      if (signal?.aborted) throw new Stopped();
      return answer;
    }).then(resolve, reject);
    signal?.addEventListener("abort", () => request.abort());
    if (signal?.aborted) return void reject(new Stopped());
    let form = null;
    if (file) {
      form = new FormData();
      form.append("file", file);
    }
    request.send(form);
  });
}

function unreachable(sent) {
  if (navigator.onLine === false) {
    return new Problem("The service cannot be reached", "This device is offline.");
  }
  return new Problem("The service cannot be reached", sent ?
    "The connection was lost while the clip was on its way." :
    "It may be stopped, or the network between you and it is down.");
}

async function understood(request, blob) {
  const {status} = request;
  const good = status >= 200 && status < 300;
  if (good && blob) return request.response;
  let answer = null;
  try {
    const {response} = request;
    answer = JSON.parse(typeof response === "string" ? response : await response.text());
  } catch {
    // Said below.
  }
  if (good && answer !== null) return answer;
  if (!good && answer?.title && answer.detail) {
    const retryAfter = Number(request.getResponseHeader("retry-after")) || null;
    throw new Problem(answer.title, answer.detail, {status, code: answer.code, retryAfter});
  }
  throw new Problem("Something else than the service answered", IN_PLACE[status] ??
    `It did so with status ${status}. A proxy may stand in front of the service.`, {status});
}

const IN_PLACE = {
  413: "Status 413: a proxy in front of the service does not let so large a clip through.",
  429: "Status 429: a proxy in front of the service has seen too many requests.",
  502: "Status 502: a proxy is there, and the service behind it is not.",
  503: "Status 503: a proxy is there, and the service behind it takes nothing at the moment.",
  504: "Status 504: a proxy is there, and the service behind it took too long.",
};
