// Where the names of points go, so that they cover neither each other nor a point.

const CHARACTER = 7.4;
const HEIGHT = 15;
// Beyond the ring of a point that is looked at.
const GAP = 18;

// A place for each of `points` {x, y, text} within the rectangle `area`: {x, y, anchor} of the text's baseline.
export function placeLabels(points, area) {
  const taken = points.map(({ x, y }) => ({ left: x - 9, right: x + 9, top: y - 9, bottom: y + 9 }));
  return points.map((point) => {
    const places = candidates(point).map((place) => ({ ...place, box: boxOf(place, point.text) }));
    const cost = ({ box, far }) => taken.reduce((sum, other) => sum + overlap(box, other), 0) + 4 * outside(box, area) + far;
    const best = places.reduce((one, other) => (cost(other) < cost(one) ? other : one));
    taken.push(best.box);
    return best;
  });
}

function candidates({ x, y }) {
  const near = [
    { x: x + GAP, y: y + 5, anchor: "start", far: 0 },
    { x: x - GAP, y: y + 5, anchor: "end", far: 1 },
    { x, y: y - GAP - 1, anchor: "middle", far: 2 },
    { x, y: y + GAP + 11, anchor: "middle", far: 2 },
  ];
  const away = [1, 2, 3, 4, 5].flatMap((step) => [-1, 1].flatMap((side) => [
    { x: x + GAP, y: y + 5 + side * step * 17, anchor: "start", far: 10 * step },
    { x: x - GAP, y: y + 5 + side * step * 17, anchor: "end", far: 10 * step + 1 },
  ]));
  return [...near, ...away];
}

function boxOf({ x, y, anchor }, text) {
  const width = CHARACTER * text.length;
  const left = anchor === "start" ? x : anchor === "end" ? x - width : x - width / 2;
  return { left, right: left + width, top: y - HEIGHT + 3, bottom: y + 4 };
}

function overlap(one, other) {
  const wide = Math.min(one.right, other.right) - Math.max(one.left, other.left);
  const high = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
  return wide > 0 && high > 0 ? wide * high : 0;
}

function outside(box, area) {
  return HEIGHT * (Math.max(area.left - box.left, 0) + Math.max(box.right - area.right, 0)
    + Math.max(area.top - box.top, 0) + Math.max(box.bottom - area.bottom, 0));
}
