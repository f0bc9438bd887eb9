
"use strict";
(() => {
  for (const one of document.querySelectorAll(".script, #filter")) one.hidden = false;

  const form = document.getElementById("filter");
  const columns = new Map();
  for (const one of document.querySelectorAll(".grid [data-s], .plane[data-s]")) {
    if (!columns.has(one.dataset.s)) columns.set(one.dataset.s, []);
    columns.get(one.dataset.s).push(one);
  }
  const rows = [...document.querySelectorAll(".grid tbody tr")];
  const filter = () => {
    for (const box of form.querySelectorAll("[name=subject]"))
      for (const one of columns.get(box.value) ?? []) one.hidden = !box.checked;
    const text = form.elements.text.value.trim().toLowerCase();
    const wanted = form.elements.rows.value;
    let shown = 0;
    for (const row of rows) {
      const named = row.cells[0].textContent.toLowerCase().includes(text);
      const has = !wanted || [...row.querySelectorAll(".has-" + wanted)].some((cell) => !cell.hidden);
      row.hidden = !(named && has);
      shown += !row.hidden;
    }
    form.elements.shown.value = shown + " of " + rows.length + " rules";
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();

  const names = document.getElementById("names");
  if (!names) return;
  const vectors = names.dataset.vectors.split("|");
  const types = names.dataset.types.split("|");
  for (const plane of document.querySelectorAll(".plane")) {
    const svg = plane.querySelector("svg");
    const says = plane.querySelector("output");
    const texts = {};
    for (const item of plane.querySelectorAll("li[data-g]"))
      texts[item.dataset.g] = item.querySelector("i").textContent + " " + item.querySelector("span").textContent;
    // Cells by TYPE and VECTOR: rows are 16 high; columns are numbered from the left.
    const xs = new Set();
    const rects = [...svg.querySelectorAll("g rect")];
    for (const rect of rects) xs.add(+rect.getAttribute("x"));
    const left = 124, wide = 14, narrow = 4, gap = 6;
    const vectorOf = (x) => x < left + 32 * wide ? (x - left) / wide : 32 + (x - left - 32 * wide - gap) / narrow;
    const cells = new Map();
    for (const rect of rects) {
      const vector = vectorOf(+rect.getAttribute("x")), type = rect.getAttribute("y") / 16;
      cells.set(type * 256 + vector, rect);
      rect.cell = [type, vector];
    }
    const mark = document.createElementNS(svg.namespaceURI, "rect");
    mark.setAttribute("class", "at");
    mark.setAttribute("height", 17);
    let at = null;
    const show = (type, vector) => {
      at = [type, vector];
      const rect = cells.get(type * 256 + vector);
      let name = "";
      if (type === 3 && vector < 32) name = " " + vectors[vector];
      const where = "TYPE " + type + " (" + types[type] + "), VECTOR " + vector + name + ": ";
      says.value = where + (rect ? texts[rect.parentNode.dataset.g] : "no case");
      const x = vector < 32 ? left + vector * wide : left + 32 * wide + gap + (vector - 32) * narrow;
      mark.setAttribute("x", x - 1);
      mark.setAttribute("y", type * 16 - 1);
      mark.setAttribute("width", (vector < 32 ? wide : narrow) + 1);
      svg.append(mark);
    };
    const clear = () => { at = null; mark.remove(); says.value = "\u00a0"; };
    svg.addEventListener("pointermove", (event) => {
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const type = Math.floor(point.y / 16), vector = Math.floor(vectorOf(point.x));
      if (type >= 0 && type < 8 && vector >= 0 && vector < 256) show(type, vector);
    });
    svg.addEventListener("pointerleave", clear);
    svg.addEventListener("blur", clear);
    svg.addEventListener("focus", () => { if (!at && svg.matches(":focus-visible")) show(3, 0); });
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!step) return;
      event.preventDefault();
      const [type, vector] = at ?? [3, 0];
      show((type + step[0] + 8) % 8, (vector + step[1] + 256) % 256);
    });
  }
})();
