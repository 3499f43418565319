// Requests to the service, and its errors in their one shape.

const KEY = "deepthin-key";
let key = sessionStorage.getItem(KEY) ?? "";

class ServiceError extends Error {
  constructor(status, { message, param = null, code = "" }, retryAfter = null) {
    super(message);
    this.status = status;
    this.param = param;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

const hasKey = () => key !== "";

export function setKey(value) {
  key = value;
  sessionStorage.setItem(KEY, value);
}

const keyHeaders = () => (key ? { Authorization: `Bearer ${key}` } : {});

// The answer to a request; throws a ServiceError that says in words what went wrong.
export async function send(path, { method = "GET", body = null, headers = {}, signal = null } = {}) {
  let response;
  try {
    response = await fetch(path, { method, body, signal, headers: { ...keyHeaders(), ...headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreachable();
  }
  if (!response.ok) throw refusal(response.status, await response.text(), response.headers.get("Retry-After"));
  return response;
}

export const json = async (path, options) => (await send(path, options)).json();

const unreachable = () => new ServiceError(0, { message: "The service cannot be reached.", code: "unreachable" });

function refusal(status, text, retryAfter) {
  let detail;
  try {
    detail = JSON.parse(text).error;
  } catch {
    detail = null;
  }
  if (status === 401) document.dispatchEvent(new Event("key-needed"));
  const seconds = Number.parseInt(retryAfter, 10);
  return new ServiceError(status, detail ?? { message: `The service answered with status ${status}.` }, Number.isNaN(seconds) ? null : seconds);
}

// A form with its progress, which fetch does not tell: `progress(sent, total)` in bytes.
export function upload(path, form, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(keyHeaders())) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => progress(event.loaded, event.total));
    request.addEventListener("error", () => reject(unreachable()));
    request.addEventListener("load", () => {
      if (request.status >= 200 && request.status < 300) resolve(JSON.parse(request.responseText));
      else reject(refusal(request.status, request.responseText, request.getResponseHeader("Retry-After")));
    });
    request.send(form);
  });
}

// Saves what is at `path` under `name`. A link cannot carry a key, so that with one the file goes through memory.
export async function save(path, name) {
  const link = document.createElement("a");
  link.download = name;
  link.href = hasKey() ? URL.createObjectURL(await (await send(path)).blob()) : path;
  link.click();
  if (hasKey()) setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
