// Figures for people.

const UNITS = ["", "k", "M", "G", "T", "P"];

/** 12345 is 12.3k: three digits that count. */
export function count(value) {
  if (value === null || value === undefined) return "–";
  let unit = 0;
  let rest = value;
  while (rest >= 999.5 && unit < UNITS.length - 1) {
    rest /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || rest >= 99.95 ? 0 : rest >= 9.995 ? 1 : 2;
  const short = digits ? rest.toFixed(digits).replace(/\.?0+$/, "") : rest.toFixed(0);
  return short + UNITS[unit];
}

export const bytes = (value) => {
  if (value === null || value === undefined) return "–";
  const shown = count(value);
  return /[a-z]$/i.test(shown) ? `${shown.slice(0, -1)} ${shown.slice(-1)}B` : `${shown} B`;
};

export const whole = (value) => (value ?? 0).toLocaleString("en");

export const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");

export function when(ms) {
  if (!ms) return "–";
  const at = new Date(ms);
  const today = new Date().toDateString() === at.toDateString();
  return today ? at.toLocaleTimeString("en-GB") : at.toLocaleString("en-GB");
}

/** How long: 3 s, 4 min 5 s, 2 h 3 min. */
export function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** What a word means for how it looks: states of pipelines, statuses of components. */
export function mood(word) {
  if (["running", "healthy", "completed"].includes(word)) return "good";
  if (["starting", "stopping", "expected", "processing", "scheduled"].includes(word)) return "warn";
  if (["failed", "unhealthy", "exited"].includes(word)) return "bad";
  return "none";
}

/** At most so many characters. */
export const cut = (value, most) => (value.length > most ? `${value.slice(0, most - 1)}…` : value);
