// deno-lint-ignore-file explicit-module-boundary-types -- plain JavaScript, typed by its comments
/**
 * What a page looks like to those who read it: contrast, focus, overflow, measured in the browser. It
 * owns the measures; what is asked of them, the tests say. Each function runs in the page by itself,
 * so it refers to nothing outside of it.
 */

/**
 * Text that is too faint on its ground, by WCAG 2.2's contrast ratio.
 * @param {number} least
 * @returns {string[]}
 */
export function faintTexts(least) {
  const rgba = (color) => (color.match(/[\d.]+/g) ?? []).map(Number);
  const luminance = (color) => {
    const [r, g, b] = color.map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const groundOf = (element) => {
    if (element === null) return [255, 255, 255];
    const color = rgba(getComputedStyle(element).backgroundColor);
    return (color[3] ?? 1) > 0 ? color : groundOf(element.parentElement);
  };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const { parentElement: parent, textContent } = walker.currentNode;
    const text = textContent.trim();
    if (text === "" || parent.getClientRects().length === 0) continue;
    if (parent.closest(".hidden, .skip") !== null) continue;
    const style = getComputedStyle(parent);
    const color = parent instanceof SVGElement ? style.fill : style.color;
    const [high, low] = [luminance(rgba(color)), luminance(groundOf(parent))]
      .sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < least) faint.push(`${text.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return faint;
}

/**
 * Pixels by which a page is wider than the window.
 * @returns {number}
 */
export function overflow() {
  return document.documentElement.scrollWidth - innerWidth;
}

/**
 * What has the focus: its words, and whether an outline shows it; undefined = nothing has it.
 * @returns {{ name: string, outlined: boolean } | undefined}
 */
export function focused() {
  const element = document.activeElement;
  if (element === null || element === document.body) return undefined;
  const style = getComputedStyle(element);
  const name = element.getAttribute("aria-label") || element.getAttribute("name") ||
    element.textContent.trim();
  return { name, outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 };
}

/**
 * How many elements a keyboard can reach.
 * @returns {number}
 */
export function reachable() {
  const all = document.querySelectorAll(
    "a[href], button, input:not([type=hidden]), select, textarea, [tabindex='0']",
  );
  return [...all].filter((one) => one.getClientRects().length > 0).length;
}

/**
 * Whether the first figure of the overview is above 0.
 * @returns {boolean}
 */
export function isMoving() {
  return parseFloat(document.querySelector(".tile .value")?.textContent ?? "0") > 0;
}

/**
 * Whether both answers of the playground have ended.
 * @returns {boolean}
 */
export function areAnswered() {
  const notes = [...document.querySelectorAll("[data-note]")];
  return notes.length === 2 && notes.every((one) => one.textContent.includes("tokens,"));
}

/**
 * The words of each element that a selector names.
 * @param {string} selector
 * @returns {string[]}
 */
export function textsOf(selector) {
  return [...document.querySelectorAll(selector)].map((one) => one.textContent);
}
