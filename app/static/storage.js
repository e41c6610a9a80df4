/** What this browser keeps for the page; what finds no room lasts until the page is closed. */

const PREFIX = "laconic.";
const unkept = new Map();

/** The JSON value kept under that name; null if there is none, or none that can be read. */
export function load(name) {
  if (unkept.has(name)) return JSON.parse(unkept.get(name));
  try {
    return JSON.parse(localStorage.getItem(PREFIX + name));
  } catch {
    return null;
  }
}

/** Keep a value; false if it will be lost with the page. */
export function save(name, value) {
  const text = JSON.stringify(value);
  try {
    localStorage.setItem(PREFIX + name, text);
    unkept.delete(name);
    return true;
  } catch {
    unkept.set(name, text);
    return false;
  }
}

/** Forget a value. */
export function remove(name) {
  unkept.delete(name);
  try {
    localStorage.removeItem(PREFIX + name);
  } catch {
    // Nothing was kept.
  }
}

/** All names that begin with `start`. */
export function names(start) {
  const found = new Set(unkept.keys());
  try {
    for (let index = 0; index < localStorage.length; index += 1) {
      const key = localStorage.key(index);
      if (key.startsWith(PREFIX)) found.add(key.slice(PREFIX.length));
    }
  } catch {
    // Only what is unkept.
  }
  return [...found].filter((name) => name.startsWith(start));
}
