// Numbers, times and names as the pages show them. A figure is { text, title }: the title has the exact value.

import { preferences } from "./preferences.js";

const whole = new Intl.NumberFormat();
const rounded = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 3 });
const percentage = new Intl.NumberFormat(undefined, { style: "percent", maximumSignificantDigits: 2 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const minute = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const dayOnly = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const dayOfYear = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const long = new Intl.DateTimeFormat(undefined, { dateStyle: "long", timeStyle: "long" });

const BYTES = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
const BITS = ["bit", "kbit", "Mbit", "Gbit", "Tbit", "Pbit", "Ebit"];

// ---- Texts ----

export const integer = (value) => whole.format(value);
export const percent = (part) => percentage.format(part);
export const clockTime = (time) => clock.format(time);
export const hourMinute = (time) => minute.format(time);
export const fullTime = (time) => long.format(time);
export const dayMonth = (time) => dayOnly.format(time);
export const plural = (value, one, many = `${one}s`) => `${whole.format(value)}\u00a0${value === 1 ? one : many}`;

// The two largest units, as in "3d 4h"; seconds where there is no larger one.
export function duration(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  return hours < 24 ? `${hours}h\u00a0${minutes % 60}m` : `${Math.floor(hours / 24)}d\u00a0${hours % 24}h`;
}

function scaled(value, units) {
  let unit = 0;
  for (; value >= 999.5 && unit < units.length - 1; unit++) value /= 1000;
  return `${rounded.format(unit ? value : Math.round(value))}\u00a0${units[unit]}`;
}

// Direction marks, controls and line breaks in a client's name could make it look like another name.
export const visible = (text) => text.replace(/[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/gu, "\ufffd");

// Clients name themselves as in "shoukaku/4.3.0 (https://...)": the comment in parentheses is left out.
export const productName = (name) => name.replace(/\s+\(.*$/s, "") || name;

// Numbers inside texts sort as numbers: 10.0.0.9 before 10.0.0.10.
export const sortable = (text) => text.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(5, "0"));

// ---- Figures ----

// Few titles are ever read, so each is written when it is.
const titled = (text, writeTitle) => ({
  text,
  get title() {
    return writeTitle();
  },
});

export const count = (value) => ({ text: whole.format(value) });

export const bytes = (value) => titled(scaled(value, BYTES), () => `${whole.format(value)} bytes`);

export function rate(value) {
  return preferences.unit === "bits"
    ? titled(`${scaled(value * 8, BITS)}/s`, () => `${whole.format(value * 8)} bits per second`)
    : titled(`${scaled(value, BYTES)}/s`, () => `${whole.format(value)} bytes per second`);
}

export const responseTime = (milliseconds) => ({ text: `${rounded.format(milliseconds)} ms` });

// Any words for a time, with the full time as their title.
export const momentAs = (text, time) => titled(text, () => fullTime(time));

export const time = (past) => momentAs((past < new Date().setHours(0, 0, 0, 0) ? day : clock).format(past), past);

export const date = (time) => momentAs(dayOfYear.format(time), time);

export const timeAgo = (past, now) => momentAs(`${duration(now - past)} ago`, past);

export const timeUntil = (future, now) => momentAs(`in ${duration(future - now)}`, future);

// A dash for what is not known.
export const orDash = (value, format) => (value === null ? { text: "–" } : format(value));
