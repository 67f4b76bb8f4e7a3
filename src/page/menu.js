// A button that opens a small panel below it; Escape and a click elsewhere close it.

import { el } from './dom.js';

export function menu(props, head, ...children) {
  const summary = el('summary', props, head);
  const details = el('details', { class: 'menu' }, summary, el('div', { class: 'menu-panel' }, ...children));
  details.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || !details.open) return;
    event.stopPropagation();
    details.open = false;
    summary.focus();
  });
  details.addEventListener('focusout', ({ relatedTarget }) => {
    if (relatedTarget && !details.contains(relatedTarget)) details.open = false;
  });
  return details;
}

addEventListener('pointerdown', ({ target }) => {
  for (const open of document.querySelectorAll('details.menu[open]')) if (!open.contains(target)) open.open = false;
});

/** Closes the menu that an element is in. */
export function closeMenu(element) {
  const open = element.closest('details.menu');
  if (open) open.open = false;
}
