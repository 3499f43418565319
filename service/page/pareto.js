// Bytes against word error rate, as SVG. Points are reached with Tab and tell what they are.

import { h, svg } from "./dom.js";
import { bytes, percent } from "./format.js";
import { placeLabels } from "./labels.js";
import { mark, sample } from "./shapes.js";

const HEIGHT = 352;
const MARGIN = { left: 54, right: 18, top: 30, bottom: 46 };
const NARROW = 560;

// Draws `rows` {name, method, size, wer} into `box`; `pick(row)` is called for the point that is looked at.
export function drawPareto(box, rows, { sizeTitle, werTitle, pick }) {
  const width = Math.max(box.clientWidth, 280);
  const methods = [...new Set(rows.map((row) => row.method))];
  if (rows.length === 0) {
    box.replaceChildren(h("p", { class: "empty" }, "No model here was measured on this test set."));
    return;
  }
  const area = { left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: HEIGHT - MARGIN.bottom };
  const x = logScale(rows.map((row) => row.size), area.left, area.right);
  const y = linearScale(Math.max(...rows.map((row) => row.wer)), area.bottom, area.top);
  const points = rows.map((row) => ({ x: x.at(row.size), y: y.at(row.wer), text: row.name, row }));
  points.sort((one, other) => one.x - other.x || one.y - other.y);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "group", "aria-label": `${werTitle} against ${sizeTitle} of ${rows.length} models` },
    axes(x, y, area, sizeTitle, werTitle),
    svg("path", { class: "front", d: staircase(points, area) }),
    points.map((point) => dot(point, methods, pick)),
    // On a phone there is no room for names; the line below the plot and the table have them.
    width < NARROW ? [] : names(points, area));
  const focused = box.contains(document.activeElement) ? document.activeElement.dataset.name : null;
  box.replaceChildren(picture, legend(methods));
  if (focused) box.querySelector(`[data-name="${CSS.escape(focused)}"]`)?.focus();
}

function logScale(values, from, to) {
  const crowded = to - from < NARROW - 100;
  const low = Math.log10(Math.min(...values)) - 0.12;
  const high = Math.log10(Math.max(...values)) + 0.12;
  const ticks = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); power += 1) {
    for (const step of high - low > 1.8 ? (crowded ? [1] : [1, 3]) : [1, 2, 5]) {
      const value = step * 10 ** power;
      if (Math.log10(value) >= low && Math.log10(value) <= high) ticks.push(value);
    }
  }
  return { at: (value) => from + ((Math.log10(value) - low) / (high - low)) * (to - from), ticks };
}

function linearScale(highest, from, to) {
  const step = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5].find((each) => highest / each <= 6) ?? 1;
  const top = Math.max(step, highest * 1.06);
  const ticks = [];
  for (let count = 0; count * step <= top; count += 1) ticks.push(count * step);
  return { at: (value) => from + (value / top) * (to - from), ticks };
}

function axes(x, y, area, sizeTitle, werTitle) {
  const lines = [
    ...y.ticks.flatMap((value) => [
      svg("line", { class: value === 0 ? "axis" : "grid", x1: area.left, x2: area.right, y1: y.at(value), y2: y.at(value) }),
      svg("text", { class: "tick", x: area.left - 8, y: y.at(value) + 4, "text-anchor": "end" }, percent(value, 0)),
    ]),
    ...x.ticks.flatMap((value) => [
      svg("line", { class: "grid", x1: x.at(value), x2: x.at(value), y1: area.top, y2: area.bottom }),
      svg("text", { class: "tick", x: x.at(value), y: area.bottom + 18, "text-anchor": "middle" }, round(value)),
    ]),
  ];
  return svg("g", { "aria-hidden": "true" }, lines,
    svg("text", { class: "tick", x: area.right, y: HEIGHT - 6, "text-anchor": "end" }, `${sizeTitle}, logarithmic →`),
    svg("text", { class: "tick", x: 2, y: 13 }, `↑ ${werTitle}`));
}

const round = (value) => bytes(value).replace(/\.0+ /, " ");

// The edge of what can be had: no other model is both smaller and better.
function staircase(points, area) {
  let best = Infinity;
  let path = "";
  for (const point of points) {
    if (point.row.wer >= best) continue;
    path += path ? `H${point.x}V${point.y}` : `M${point.x} ${area.top}V${point.y}`;
    best = point.row.wer;
  }
  return `${path}H${area.right}`;
}

function dot({ x, y, row }, methods, pick) {
  const text = `${row.name}: ${row.method}, ${bytes(row.size)}, ${percent(row.wer)} word errors`;
  const look = () => pick(text);
  return svg("g", { class: "point", transform: `translate(${x} ${y})`, tabindex: "0", role: "img", "aria-label": text, "data-name": row.name, onfocus: look, onpointerenter: look, onclick: look },
    svg("circle", { r: 14, class: "ring", "pointer-events": "all" }), svg("title", {}, text), mark(row.method, methods));
}

function names(points, area) {
  return placeLabels(points, area).flatMap((place, index) => {
    const { x, y, text } = points[index];
    const label = svg("text", { class: "halo", x: place.x, y: place.y, "text-anchor": place.anchor, "aria-hidden": "true" }, text);
    return place.far < 10 ? [label] : [svg("line", { class: "leader", x1: x, y1: y, x2: place.x, y2: place.y - 5 }), label];
  });
}

const legend = (methods) => h("ul", { class: "legend", "aria-label": "Methods" }, methods.map((method) => h("li", {}, sample(method, methods), method)));
