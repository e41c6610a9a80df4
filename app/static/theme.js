/**
 * Light, dark, or as the system: a plain script in the head, so that the page never flashes in the
 * wrong colours. The choice is an attribute of <html>; style.css does the rest.
 */
(() => {
  const KEY = "laconic.theme";
  const NAMES = { system: "as the system", light: "light", dark: "dark" };
  const ORDER = Object.keys(NAMES);

  function load() {
    try {
      const kept = localStorage.getItem(KEY);
      return ORDER.includes(kept) ? kept : "system";
    } catch {
      return "system"; // storage is switched off
    }
  }

  function show(theme) {
    document.documentElement.dataset.theme = theme;
    const button = document.getElementById("theme");
    button?.setAttribute("aria-label", `Colours: ${NAMES[theme]}`);
    button?.setAttribute("title", `Colours: ${NAMES[theme]}`);
  }

  function next() {
    const theme = ORDER[(ORDER.indexOf(document.documentElement.dataset.theme) + 1) % ORDER.length];
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // The choice lasts until the page is closed.
    }
    show(theme);
  }

  show(load());
  document.addEventListener("DOMContentLoaded", () => {
    show(load());
    document.getElementById("theme").addEventListener("click", next);
  });
})();
