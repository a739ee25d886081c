// Sorts the table by a column, and hides what there is nothing to say of.
"use strict";
(() => {
  const body = document.querySelector("tbody");
  const heads = [...document.querySelectorAll("th")];
  const value = (row, column) => Number(row.querySelector(`td.${column}`).dataset.value);

  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", () => {
      const head = button.parentElement;
      const { column } = button.dataset;
      const first = column === "number" ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      for (const each of heads) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const rows = [...body.rows].sort((a, b) => sign * (value(a, column) - value(b, column)));
      body.append(...rows);
    });
  }
  document.getElementById("only-odd").addEventListener("change", (change) => {
    body.classList.toggle("only-odd", change.target.checked);
  });
})();
