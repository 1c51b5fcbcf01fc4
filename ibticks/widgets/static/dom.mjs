// Helpers for building the page.

/** Milliseconds after which a kernel that sends nothing counts as not responding. */
export const SILENCE_MS = 5000;

/**
 * Make an element.
 *
 * @param {string} tag
 * @param {string} className - none where empty
 * @param {?Element} parent - appended to, unless null
 * @param {string} [text]
 * @returns {HTMLElement}
 */
export function makeElement(tag, className, parent, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  parent?.append(element);
  return element;
}

/**
 * Return a function that reads the colours of the page's theme.
 *
 * @param {Element} root
 * @returns {function(string): string} - from the name of a CSS variable to its value
 */
export function themeColours(root) {
  return (key) => getComputedStyle(root).getPropertyValue(key).trim() || "#888";
}

/**
 * Return whether ipywidgets has made the view without a kernel.
 *
 * @param {Element} el
 * @returns {boolean}
 */
export function isDisconnected(el) {
  return el.classList.contains("jupyter-widgets-disconnected");
}
