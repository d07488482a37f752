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

export async function readJson(path, options) {
  // The address of a page opened as http://user:password@host/ has both in it, and fetch refuses such addresses.
  const url = new URL(path, document.baseURI);
  url.username = url.password = "";
  let response;
  try {
    response = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT), ...options });
    if (response.ok) return await response.json();
  } catch (error) {
    throw new ApiError(error.name === "TimeoutError" ? "late" : "gone");
  }
  throw new ApiError(response.status === 401 ? "locked" : "failing", await messageOf(response));
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
