// Numbers and times as text.

/**
 * Return whether a value is a finite number.
 *
 * @param {*} value
 * @returns {boolean}
 */
export const isKnown = (value) => value !== undefined && Number.isFinite(value);

const compactNumber = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
const sizeNumber = new Intl.NumberFormat("en-US", { maximumFractionDigits: 4 });

/**
 * Format a large number in a few characters.
 *
 * @param {number} value
 * @returns {string}
 */
export const formatCompact = (value) => compactNumber.format(value);

/**
 * Format a traded or quoted size.
 *
 * @param {number} value
 * @returns {string}
 */
export const formatSize = (value) => sizeNumber.format(value);

/**
 * Format a price; a dash where there is none.
 *
 * @param {number|undefined|null} value
 * @param {number} decimals
 * @returns {string}
 */
export function formatPrice(value, decimals) {
  const digits = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  return isKnown(value) ? value.toLocaleString("en-US", digits) : "–";
}

/**
 * Format a value with few decimals where it is large, and enough where it is small.
 *
 * @param {number} value
 * @param {string} unit
 * @returns {string}
 */
export function formatBrief(value, unit) {
  const isLarge = Math.abs(value) >= 0.1 || value === 0;
  return `${isLarge ? value.toFixed(1) : value.toPrecision(1)} ${unit}`;
}

/**
 * Format a duration in its largest unit.
 *
 * @param {number} seconds
 * @returns {string}
 */
export function formatDuration(seconds) {
  const units = [[86400, "d"], [3600, "h"], [60, "min"]];
  const [size, unit] = units.find(([least]) => seconds >= 2 * least) ?? [1, "s"];
  return `${size === 1 && seconds < 10 ? seconds.toFixed(1) : Math.floor(seconds / size)} ${unit}`;
}

/**
 * Return a function that formats the time of day in a zone.
 *
 * @param {string} zone
 * @returns {function(number, boolean=): string} - of seconds since 1970, with milliseconds if wanted
 */
export function clockOf(zone) {
  const format = new Intl.DateTimeFormat("en-GB", {
    timeZone: zone, hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3,
  });
  return (seconds, withMilliseconds) => {
    const text = format.format(new Date(seconds * 1000));
    return withMilliseconds ? text : text.slice(0, 8);
  };
}

/**
 * Format a time with its zone, and with its day where that is not the day of `now`.
 *
 * @param {number} seconds - since 1970
 * @param {number} now - seconds since 1970
 * @param {string} zone
 * @returns {string}
 */
export function formatStamp(seconds, now, zone) {
  const days = new Intl.DateTimeFormat("en-CA", { timeZone: zone });
  const [day, today] = [seconds, now].map((at) => days.format(new Date(at * 1000)));
  return `${day === today ? "" : `${day} `}${clockOf(zone)(seconds)} ${zone}`;
}
