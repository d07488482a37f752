// Requests to lavaproxy's API.

const TIMEOUT = 10_000; // in ms

// Why a request gave no answer to show.
export const TROUBLES = {
  late: "The proxy does not answer.",
  gone: "The proxy is gone: nothing listens at this address, or the network is down.",
  locked: "The proxy asks for its password: reload the page to enter it.",
  failing: "The proxy answers with an error; its log says more.",
};

// `state` is one of TROUBLES. `message` is what the API said, if it said anything.
export class ApiError extends Error {
  constructor(state, message = TROUBLES[state]) {
    super(message);
    this.state = state;
  }
}

const BASE = directory();

// The address of a page opened as http://user:password@host/ has both in it, and fetch refuses such addresses.
function directory() {
  const address = new URL("./", document.baseURI);
  address.username = address.password = "";
  return address.href;
}

export async function readJson(path, options) {
  // A signal of AbortSignal.timeout() would wake the page for each answer long after it came.
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), TIMEOUT);
  let response;
  let message;
  try {
    response = await fetch(BASE + path, { cache: "no-store", signal: abort.signal, ...options });
    if (response.ok) return await response.json();
    message = await messageOf(response);
  } catch {
    throw new ApiError(abort.signal.aborted ? "late" : "gone");
  } finally {
    clearTimeout(timer);
  }
  throw new ApiError(response.status === 401 ? "locked" : "failing", message);
}

const HEADERS = { "X-Requested-With": "lavaproxy" };

// `body` is sent as JSON, if there is one.
export const post = (path, body) =>
  readJson(path, {
    method: "POST",
    ...(body ? { headers: { ...HEADERS, "Content-Type": "application/json" }, body: JSON.stringify(body) } : { headers: HEADERS }),
  });

export const remove = (path) => readJson(path, { method: "DELETE", headers: HEADERS });

// A proxy in front of lavaproxy may answer with something else than JSON.
async function messageOf(response) {
  try {
    return (await response.json()).message;
  } catch {
    return undefined;
  }
}
