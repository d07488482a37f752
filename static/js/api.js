// Requests to lavaproxy's API.

const TIMEOUT = 10_000; // in ms

// A request that gave no answer to show. `state` is one of those that header.js explains: late, gone, locked, failing.
export class ApiError extends Error {
  constructor(state) {
    super(state);
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
  throw new ApiError(response.status === 401 ? "locked" : "failing");
}
