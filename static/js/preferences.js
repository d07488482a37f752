// The reader's choices. They are kept in localStorage; where the browser forbids it, they last until the page is left.

export const INTERVALS = [1, 2, 5, 10, 30, 60]; // between two updates, in seconds

export function recall(name, allowed, otherwise) {
  try {
    const value = JSON.parse(localStorage.getItem(`lavaproxy.${name}`));
    return allowed.includes(value) ? value : otherwise;
  } catch {
    return otherwise;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(`lavaproxy.${name}`, JSON.stringify(value));
  } catch {
    // The choice holds on this page all the same.
  }
}

export const preferences = {
  refresh: recall("refresh", INTERVALS, 5),
  unit: recall("unit", ["bytes", "bits"], "bytes"),
  theme: recall("theme", ["light", "dark"], null), // null: the system's
};

export function prefer(name, value) {
  preferences[name] = value;
  remember(name, value);
}
