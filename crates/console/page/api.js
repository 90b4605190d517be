// Requests. The token stays in this tab, and goes out in a header only.

const KEY = "sheaf-token";

export class Refused extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export const hasToken = () => sessionStorage.getItem(KEY) !== null;
export const setToken = (token) =>
  token ? sessionStorage.setItem(KEY, token) : sessionStorage.removeItem(KEY);

/** A link may bring the token behind its `#`: it is taken out of the address at once. */
export function takeToken() {
  const found = /^#token=([\w.~+/=-]+)$/.exec(location.hash);
  if (!found) return;
  setToken(found[1]);
  history.replaceState(null, "", location.pathname);
}

async function request(path, options = {}) {
  const headers = { ...options.headers };
  if (hasToken()) headers.authorization = `Bearer ${sessionStorage.getItem(KEY)}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("unavailable", "the server does not answer");
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  throw new Refused(
    answer.error?.code ?? "unknown",
    answer.error?.message ?? `the server answered ${response.status}`);
}

const query = (parameters) => new URLSearchParams(
  Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined));

export const get = async (path, parameters = {}) =>
  (await request(`${path}?${query(parameters)}`)).json();

export const post = async (path, body) => {
  const headers = { "content-type": "application/json" };
  return (await request(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
};

/** Lines of JSON as they come. */
export async function lines(path, parameters, signal, take) {
  const response = await request(`${path}?${query(parameters)}`, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    const found = parts.filter((part) => part).map((part) => JSON.parse(part));
    if (found.length) take(found);
  }
}
