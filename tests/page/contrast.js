// For the tests: every piece of text on the page whose contrast with its ground is below what WCAG 2 (AA) asks for,
// and every control without a name.
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = rgba(getComputedStyle(each).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return rgba(getComputedStyle(document.body).backgroundColor);
  };
  const seen = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && !element.closest(".sr, svg, .skip");
  const problems = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let count = 0;
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !seen(element) || element.closest("select, script")) continue;
    count += 1;
    const style = getComputedStyle(element);
    const [one, other] = [light(rgba(style.color)), light(ground(element))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) problems.push(`${ratio.toFixed(2)}: ${walker.currentNode.data.trim().slice(0, 40)}`);
  }
  for (const text of document.querySelectorAll(".plot text")) {
    const [one, other] = [light(rgba(getComputedStyle(text).fill)), light(ground(text.closest(".card")))].sort((a, b) => b - a);
    if ((one + 0.05) / (other + 0.05) < 4.5) problems.push(`plot: ${text.textContent}`);
  }
  for (const control of document.querySelectorAll("button, input, select, meter, progress, audio, [role=region], [role=img]")) {
    if (!seen(control) && control.closest("svg") === null) continue;
    const named = control.ariaLabel || control.getAttribute("aria-labelledby") || control.labels?.length || control.textContent.trim();
    if (!named) problems.push(`no name: ${control.outerHTML.slice(0, 80)}`);
  }
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of ids) if (ids.filter((each) => each === id).length > 1) problems.push(`id twice: ${id}`);
  for (const label of document.querySelectorAll("[aria-labelledby], [aria-describedby]")) {
    for (const id of `${label.getAttribute("aria-labelledby") ?? ""} ${label.getAttribute("aria-describedby") ?? ""}`.trim().split(/\s+/)) {
      if (!document.getElementById(id)) problems.push(`points nowhere: ${id}`);
    }
  }
  return { count, problems };
}
