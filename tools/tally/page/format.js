// Numbers as the commands of tally print them: three digits, binary units.
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

export function bytes(value) {
  if (value < 0) return "−" + bytes(-value);
  let unit = 0;
  let size = value;
  while (size >= 1024 && unit + 1 < UNITS.length) {
    size /= 1024;
    ++unit;
  }
  if (unit === 0) return `${Math.round(size)} B`;
  const digits = size < 10 ? 2 : size < 100 ? 1 : 0;
  const cut = 10 ** digits;
  return `${(Math.floor(size * cut + 1e-9) / cut).toFixed(digits)} ${UNITS[unit]}`;
}

// For axes: no more digits than needed.
export const shortBytes = (value) => bytes(value).replace(/\.0+ /, " ").replace(/(\.\d*?)0+ /, "$1 ");

// Where an axis of bytes ends, and how far apart its ticks are: round numbers of binary units.
export function byteAxis(most, parts = 5) {
  const unit = 1024 ** Math.max(0, Math.floor(Math.log2(Math.max(1, most / parts)) / 10));
  const interval = unit * [1, 2, 5, 10, 20, 50, 100, 200, 256, 512, 1024].find((step) => step * unit * parts >= most);
  return { min: 0, max: Math.ceil(most / interval) * interval, interval };
}

export function count(value) {
  if (value < 0) return "−" + count(-value);
  if (value < 10000) return String(Math.round(value));
  for (const [size, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= size) {
      const part = value / size;
      return part.toFixed(part < 10 ? 2 : part < 100 ? 1 : 0) + letter;
    }
  }
  return String(value);
}

export const share = (part, whole) => (whole > 0 ? `${(part / whole * 100).toFixed(1)} %` : "–");

export function duration(ms) {
  const steps = [["day", 86400e3], ["h", 3600e3], ["min", 60e3], ["s", 1e3]];
  for (const [name, size] of steps) {
    if (ms >= size) {
      const many = Math.floor(ms / size);
      return `${many} ${name}${name === "day" && many !== 1 ? "s" : ""}`;
    }
  }
  return `${Math.round(ms)} ms`;
}

const pad = (value) => String(value).padStart(2, "0");
export const clock = (ms) => {
  const time = new Date(ms);
  return `${pad(time.getHours())}:${pad(time.getMinutes())}:${pad(time.getSeconds())}`;
};
export const date = (ms) => {
  const time = new Date(ms);
  return `${time.getFullYear()}-${pad(time.getMonth() + 1)}-${pad(time.getDate())} ${clock(ms)}`;
};
