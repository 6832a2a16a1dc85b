// Draws the figures, saves one as SVG, and sorts tables. Runs once, when the page has been read.

const read = (id) => JSON.parse(document.getElementById(id)?.textContent ?? "null");
const specs = read("specs") ?? [];
const options = {
  mode: "vega-lite",
  renderer: "svg", // CSS variables colour it, so that it follows the theme and prints sharp
  actions: false,
  ast: true, // interpret expressions instead of compiling them: the page forbids eval
  tooltip: { disableDefaultStyle: true },
};

const look = read("config");

for (const chart of document.querySelectorAll(".chart")) {
  const columns = Math.max(1, Math.floor(chart.clientWidth / 125)); // a legend does not wrap by itself
  const legend = { ...look.legend, columns, labelLimit: chart.clientWidth / columns };
  const axisY = { labelLimit: Math.max(110, chart.clientWidth / 3) };
  const config = { ...look, legend, axisY };
  vegaEmbed(chart, specs[chart.dataset.figure], { ...options, config }).then(
    () => offerToSave(chart),
    (problem) => { chart.textContent = `This figure could not be drawn: ${problem.message}`; },
  );
}

function offerToSave(chart) {
  const figure = chart.closest("figure");
  const button = figure.querySelector(".save");
  button.hidden = false;
  button.addEventListener("click", () => {
    const style = getComputedStyle(document.documentElement);
    const picture = new XMLSerializer()
      .serializeToString(chart.querySelector("svg"))
      .replace(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([picture], { type: "image/svg+xml" }));
    link.download = `${figure.querySelector("h3").textContent.replace(/\W+/g, "-").toLowerCase()}.svg`;
    link.click();
    URL.revokeObjectURL(link.href);
  });
}

for (const heading of document.querySelectorAll(".sortable th[scope=col]")) {
  heading.querySelector("button").addEventListener("click", () => sort(heading));
}

function sort(heading) {
  const column = heading.cellIndex;
  const body = heading.closest("table").tBodies[0];
  const up = heading.getAttribute("aria-sort") !== "ascending";
  for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  const order = (first, second) => {
    const a = first.cells[column], b = second.cells[column];
    if (!heading.classList.contains("figure")) {
      const names = a.textContent.localeCompare(b.textContent, undefined, { numeric: true });
      return up ? names : -names;
    }
    const x = a.dataset.value, y = b.dataset.value;
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined); // last
    return up ? x - y : y - x;
  };
  body.append(...[...body.rows].sort(order));
}
