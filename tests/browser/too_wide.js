// What stands out of a page to its right, beside what scrolls by itself.
const width = document.documentElement.clientWidth;
if (document.documentElement.scrollWidth <= width) return [];
const scrolls = (element) => {
  for (let each = element.parentElement; each && each !== document.body; each = each.parentElement)
    if (getComputedStyle(each).overflowX !== "visible") return true;
  return false;
};
return [...document.body.querySelectorAll("*")]
  .filter((e) => e.checkVisibility() && !scrolls(e) && e.getBoundingClientRect().right > width + 1)
  .slice(0, 5)
  .map((e) => `${e.tagName}.${e.getAttribute("class")} ends at ${e.getBoundingClientRect().right}: ${e.textContent.slice(0, 40)}`);
