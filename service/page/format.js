// Numbers for people.

const MISSING = "–";

export function bytes(count) {
  if (count === null || count === undefined) return MISSING;
  if (count < 1000) return `${count} B`;
  const [value, unit] = count < 1e6 ? [count / 1e3, "kB"] : count < 1e9 ? [count / 1e6, "MB"] : [count / 1e9, "GB"];
  return `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${unit}`;
}

export function percent(ratio, digits = 1) {
  return ratio === null || ratio === undefined ? MISSING : `${(100 * ratio).toFixed(digits)} %`;
}

// A difference of two rates, with its sign.
export function points(ratio) {
  if (ratio === null || ratio === undefined) return MISSING;
  const value = (100 * ratio).toFixed(1);
  return `${ratio < 0 ? "−" : "+"}${value.replace("-", "")}`;
}

export function seconds(value) {
  if (value === null || value === undefined) return MISSING;
  if (value < 1) return `${value < 0.01 ? Number((1000 * value).toPrecision(2)) : Math.round(1000 * value)} ms`;
  return value < 100 ? `${value.toFixed(1)} s` : clock(value);
}

export function clock(value) {
  const whole = Math.floor(value);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

export function factor(value) {
  return value === null || value === undefined ? MISSING : value.toFixed(value < 0.1 ? 3 : 2);
}

export function plural(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}

export function moment(iso) {
  const date = new Date(iso);
  const today = date.toDateString() === new Date().toDateString();
  return date.toLocaleString([], today ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" });
}
