// Light and dark, and the colours of both. Those of series are after Okabe and Ito, who chose them to be told apart by
// everybody, and stand out from the background by 3 : 1 or more.
const SERIES = {
  light: ["#0072b2", "#d55e00", "#008f68", "#b5568f", "#9a6a00", "#2a8cc7", "#5b4bb7", "#b3261e", "#4d7c0f", "#6b4f3a"],
  dark: ["#4aa8e8", "#f08a4b", "#2fc39a", "#e29ac4", "#e3b341", "#8fd0f5", "#a99bf5", "#ff8a80", "#a3cf5d", "#c9a88f"],
};
const REST = { light: "#7d8590", dark: "#8b949e" };
const RAMP = {
  light: ["#eaf2fb", "#bcd7f0", "#7db3e0", "#3987c6", "#0f5ea0", "#083a68"],
  dark: ["#17263a", "#1d4168", "#20639c", "#3a8fd0", "#7cc0f0", "#d3edff"],
};

const listeners = [];

export const isDark = () => document.documentElement.dataset.theme === "dark";
export const series = (i) => SERIES[isDark() ? "dark" : "light"][i % SERIES.light.length];
export const seriesCount = SERIES.light.length;
export const rest = () => REST[isDark() ? "dark" : "light"];
export const ramp = () => RAMP[isDark() ? "dark" : "light"];
// A colour of the style sheet. Asking for one costs a layout, so each is asked for once.
const known = new Map();
export function colour(name) {
  if (!known.has(name)) {
    known.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  }
  return known.get(name);
}

// A page from a file may have no storage.
function stored(value) {
  try {
    if (value) localStorage.setItem("tally-theme", value);
    return localStorage.getItem("tally-theme");
  } catch {
    return null;
  }
}

export function onTheme(listener) {
  listeners.push(listener);
}

export function startTheme(button) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const set = (dark) => {
    known.clear();
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    button.textContent = dark ? "☀" : "☾";
    button.setAttribute("aria-label", dark ? "Light theme" : "Dark theme");
    button.title = dark ? "Light theme" : "Dark theme";
    for (const listener of listeners) listener();
  };
  set(stored() ? stored() === "dark" : system.matches);
  system.addEventListener("change", () => stored() || set(system.matches));
  button.addEventListener("click", () => {
    const dark = !isDark();
    stored(dark ? "dark" : "light");
    set(dark);
  });
}
