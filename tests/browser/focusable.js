// What the keyboard should reach, in order; with arguments[0], what it has reached.
const named = (e) => `${[...document.querySelectorAll("*")].indexOf(e)} ${e.tagName} ${e.textContent.trim().slice(0, 20)}`;
if (arguments[0]) return named(document.activeElement);
return [...document.querySelectorAll("a[href], button, select, summary, [tabindex='0']")]
  .filter((e) => e.checkVisibility())
  .map(named);
