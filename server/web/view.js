// Elements of the page: tables, figures with a chart and its table, numbers as text. Knows nothing of the API.
'use strict';

// Numbers of the API: 64-bit integers come as strings, absent ones are zero.
const number = (value) => (value === undefined ? 0 : Number(value));

const format = {
  bytes(value) {
    const b = number(value);
    if (b >= 1e9) return (b / 1e9).toFixed(2) + ' GB';
    if (b >= 1e6) return (b / 1e6).toFixed(2) + ' MB';
    if (b >= 1e3) return (b / 1e3).toFixed(1) + ' kB';
    return b + ' B';
  },
  count: (value) => String(number(value)),
  fixed: (value, digits) => number(value).toFixed(digits),
  ms: (seconds) => (number(seconds) * 1e3).toFixed(2),
  percent: (share) => (number(share) * 100).toFixed(2) + ' %',
  ratio: (value) => (value === undefined ? '–' : number(value).toFixed(2) + '×'),
};

// element('td', {class: 'text'}, 'a', child): attributes with undefined are left out.
function element(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

// A table kept in place: cells change only when their text does, so that a reader's position and selection stay.
class Table {
  constructor(caption, head) {
    this.body = element('tbody');
    this.headRow = element('tr');
    this.table = element('table', {}, element('caption', {}, caption), element('thead', {}, this.headRow), this.body);
    this.node = element('div', {class: 'scroll', role: 'region', tabindex: '0', 'aria-label': caption}, this.table);
    this.head(head);
  }
  head(titles) {
    if (this.titles === titles.join('\n')) return;
    this.titles = titles.join('\n');
    this.headRow.replaceChildren(...titles.map((title) => element('th', {scope: 'col'}, title)));
  }
  // rows: arrays of cells; a cell is text or {text, key, className}; the first is the row's head. `key` names the figure.
  rows(rows) {
    while (this.body.rows.length > rows.length) this.body.deleteRow(-1);
    rows.forEach((cells, r) => {
      const row = this.body.rows[r] || this.body.insertRow();
      while (row.cells.length > cells.length) row.deleteCell(-1);
      cells.forEach((cell, c) => {
        const {text, key, className = ''} = typeof cell === 'object' ? cell : {text: cell};
        let node = row.cells[c];
        if (!node) {
          node = c === 0 ? element('th', {scope: 'row'}) : element('td');
          row.append(node);
        }
        if (node.textContent !== text) node.textContent = text;
        if (node.className !== className) node.className = className;
        const title = this.headRow.cells[c];
        if (title && className.startsWith('text')) title.className = 'text';
        if (key && node.dataset.figure !== key) node.dataset.figure = key;
      });
    });
  }
}

// Colours and scales of charts follow the style sheet's variables.
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const seriesColour = (i) => style('--series-' + (i % 6));

// A chart with its caption, a spoken summary, and its numbers as a table behind it.
class Figure {
  constructor(title, note, head, config) {
    this.canvas = element('canvas', {role: 'img', 'aria-label': title});
    this.table = new Table(title, head);
    this.title = title;
    this.node = element(
      'figure',
      {},
      element('figcaption', {}, title, element('small', {}, note)),
      element('div', {class: 'canvas'}, this.canvas),
      element('details', {}, element('summary', {}, 'Table: ' + title), this.table.node),
    );
    this.config = config;
  }
  // Datasets are replaced in place; the chart is made when it is first shown.
  show(data, summary, rows) {
    const label = this.title + '. ' + summary;
    if (this.canvas.getAttribute('aria-label') !== label) this.canvas.setAttribute('aria-label', label);
    this.table.rows(rows);
    if (!this.chart) {
      this.chart = new Chart(this.canvas, {...this.config, data, options: this.options()});
      return;
    }
    if (data.labels) this.chart.data.labels = data.labels;
    this.chart.data.datasets = data.datasets;
    this.chart.update('none');
  }
  options() {
    const base = this.config.options;
    const soft = style('--soft'),
      rule = style('--rule');
    const scales = {};
    for (const [name, scale] of Object.entries(base.scales)) {
      scales[name] = {
        ...scale,
        ticks: {...scale.ticks, color: soft},
        grid: {color: rule, borderColor: rule},
        title: {display: true, color: soft, ...scale.title},
      };
    }
    return {
      ...base,
      scales,
      animation: false,
      responsive: true,
      maintainAspectRatio: false,
      normalized: true,
      plugins: {
        ...base.plugins,
        legend: {labels: {color: style('--text'), boxWidth: 14, filter: (item) => !item.text.startsWith('_')}},
      },
    };
  }
  repaint() {
    if (!this.chart) return;
    this.chart.options = this.options();
  }
}
