// The texts whose contrast with what is behind them is below 4.5 to 1 (WCAG 2.2, 1.4.3 and its definitions of relative
// luminance and contrast). Colours are as the browser computes them, those with alpha laid over one another; of a gradient,
// the colour that is worst.
const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const known = new Map();
const rgba = (css) => {
  if (!known.has(css)) {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = css;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    known.set(css, [r, g, b, a / 255]);
  }
  return known.get(css);
};
const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
const linear = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const contrast = (a, b) => {
  const [lighter, darker] = [luminance(a), luminance(b)].sort((p, q) => q - p);
  return (lighter + 0.05) / (darker + 0.05);
};
const behind = (element) => {
  const layers = [];
  for (let e = element; e; e = e.parentElement) layers.unshift(getComputedStyle(e));
  let found = [matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18, 1] : [255, 255, 255, 1]];
  for (const style of layers) {
    found = found.map((under) => over(rgba(style.backgroundColor), under));
    const drawn = style.backgroundImage.match(/(?:rgba?|color|oklab|oklch)\([^()]*\)/g) ?? [];
    found = found.concat(drawn.flatMap((css) => found.map((under) => over(rgba(css), under))));
  }
  return found;
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const poor = [];
let texts = 0;
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || element.matches("script, style, option, title, desc")) continue;
  if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
  texts += 1;
  const style = getComputedStyle(element);
  const ink = rgba(element instanceof SVGElement ? style.fill : style.color);
  const least = Math.min(...behind(element).map((paper) => contrast(over(ink, paper), paper)));
  const said = walker.currentNode.data.trim().slice(0, 40);
  if (least < 4.5) poor.push(`${least.toFixed(2)} ${element.tagName}.${element.getAttribute("class")}: ${said}`);
}
return { texts, poor: [...new Set(poor)].slice(0, 20) };
