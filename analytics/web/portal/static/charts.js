// Draws the charts of a page from the JSON beside them. body[data-ready] is set when all are drawn.
"use strict";
(() => {
  const config = { responsive: true, displayModeBar: false, scrollZoom: false, doubleClick: false };
  const drawn = [...document.querySelectorAll("[data-chart]")].map((place) => {
    const figure = JSON.parse(document.getElementById(place.dataset.chart).textContent);
    if (window.innerWidth < 600) narrow(figure.layout);
    return window.Plotly.newPlot(place, figure.data, figure.layout, config);
  });
  // A page that says that something is still being worked out looks again by itself.
  if (document.getElementById("again")) window.setTimeout(() => window.location.reload(), 2000);
  Promise.allSettled(drawn).then(() => { document.body.dataset.ready = "1"; });

  function narrow(layout) {
    layout.margin = { ...layout.margin, l: 44, r: 8 };
    layout.font = { ...layout.font, size: 11 };
    if (layout.xaxis && layout.xaxis.ticksuffix) layout.xaxis.dtick = 3;
    if (layout.xaxis && layout.xaxis.tickvals && layout.xaxis.tickvals.length > 8) {
      layout.xaxis.tickvals = layout.xaxis.tickvals.filter((_, i) => i % 3 === 0);
      layout.xaxis.ticktext = layout.xaxis.ticktext.filter((_, i) => i % 3 === 0);
    }
  }
})();
