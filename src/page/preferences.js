// How a person likes the page: kept in this browser. Nothing of a log and no token ever goes here.

const PREFIX = 'task-logger.';

export function preference(name, otherwise) {
  try {
    return localStorage.getItem(PREFIX + name) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(PREFIX + name, value);
  } catch {
    // Then it holds until the page is left.
  }
}

const THEMES = ['auto', 'light', 'dark'];

/** `auto`, `light` or `dark`. */
export function theme() {
  const kept = preference('theme', 'auto');
  return THEMES.includes(kept) ? kept : 'auto';
}

/** Applies a theme; `auto` follows the system. */
export function setTheme(name) {
  if (name === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  remember('theme', name);
}

/** The theme after this one. */
export function nextTheme() {
  return THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
}
