// Reads /api/v1/variants again and again (proto/octet/v1/octet.proto) and shows it: one section a model and version.
'use strict';

const PERIOD_MS = 2000;
const HISTORY = 900; // readings kept for charts over time: half an hour
const KINDS = ['weights', 'activations', 'scratchpad', 'code', 'metadata']; // resident ones, as Memory names them
const MAX_LAYERS = 24; // bars a reader can tell apart; the table has all
const MAX_OUTPUTS = 4; // charts of agreement; the table has all

const list = (value) => value || [];
const finite = (value) => value !== undefined && Number.isFinite(Number(value));
const figureKey = (variant, name) => variant + '/' + name;
const resident = (memory) => KINDS.reduce((sum, kind) => sum + number(memory[kind]), 0);
const clockText = (unix) => new Date(unix * 1000).toLocaleTimeString([], {hour12: false});

// Seconds before now, as a reader says it.
const agoText = (seconds) =>
  seconds >= 0 ? 'now' : seconds > -120 ? Math.round(-seconds) + ' s' : Number((-seconds / 60).toFixed(1)) + ' min';
const boundOf = (pair, measure) => ((pair.guard || {}).settings || {})['min_' + measure];

const timeAxis = {
  type: 'linear',
  title: {text: 'ago'},
  max: 0,
  suggestedMin: -60,
  ticks: {callback: agoText, maxTicksLimit: 7, maxRotation: 0, precision: 0},
};
const lineStyle = {pointRadius: 0, borderWidth: 2, tension: 0, spanGaps: false};

// What was read, for charts over time.
class History {
  constructor() {
    this.times = [];
    this.series = new Map();
  }
  begin(unix) {
    this.times.push(unix);
    if (this.times.length > HISTORY) this.times.shift();
  }
  // Appends to one series; readings in which it was absent are holes.
  add(name, value) {
    const points = this.series.get(name) || [];
    points.push({at: this.times[this.times.length - 1], value});
    if (points.length > HISTORY) points.shift();
    this.series.set(name, points);
  }
  points(name) {
    const now = this.times[this.times.length - 1];
    return (this.series.get(name) || []).map(({at, value}) => ({x: at - now, y: value}));
  }
}

const liveFigure = (title, note, head, unit) =>
  new Figure(title, note, head, {
    type: 'line',
    options: {
      parsing: false,
      interaction: {mode: 'nearest', axis: 'x', intersect: false},
      scales: {x: timeAxis, y: {title: {text: unit}, beginAtZero: true}},
    },
  });

class VersionView {
  constructor(model, version) {
    this.id = 'model-' + encodeURIComponent(model) + '-' + version.version;
    this.history = new History();
    this.figures = new Map();
    const title = model + ', version ' + version.version;
    this.heading = element('h2', {id: this.id, tabindex: '-1'}, title);
    this.facts = element('p', {class: 'facts'});
    this.alerts = element('div', {role: 'alert'});
    this.variants = new Table('Variants of ' + title, [
      'variant',
      'role',
      'state',
      'file',
      'weights',
      'resident',
      'weights / reference',
      'load s',
      'answered',
      'failed',
      'queue',
      'requests/s',
      'p50 ms',
      'p90 ms',
      'p99 ms',
      'max ms',
    ]);
    this.pairs = new Table('Agreement with the reference, live and recorded', [
      'variant',
      'output',
      'source',
      'top-1 agreement',
      '95 % interval',
      'SQNR dB',
      '95 % interval',
      'cosine',
      'compared',
      'dropped',
      'CPU time / reference',
      'guard',
    ]);
    this.charts = element('div', {class: 'charts'});
    this.node = element(
      'section',
      {'aria-labelledby': this.id},
      this.heading,
      this.facts,
      this.alerts,
      this.variants.node,
      element('h3', {id: this.id + '-pairs'}, 'Agreement'),
      this.pairs.node,
      this.charts,
    );
  }

  figure(name, make) {
    if (!this.figures.has(name)) {
      const figure = make();
      this.figures.set(name, figure);
      this.charts.append(figure.node);
    }
    return this.figures.get(name);
  }

  update(version, unix) {
    this.history.begin(unix);
    const weights = Object.entries(version.weights || {});
    this.facts.textContent = [
      'Requests that name no variant go to ' +
        (weights.length
          ? weights.map(([name, share]) => name + ' (' + format.percent(share) + ')').join(', ')
          : version.primary) +
        '.',
      version.reference
        ? 'Reference: ' +
          version.reference +
          '; ' +
          format.percent(version.compare_fraction) +
          ' of the requests are compared with it.'
        : 'No reference: nothing is compared.',
    ].join(' ');
    this.showAlerts(version);
    this.showVariants(version);
    this.showPairs(version);
    this.showMemory(version);
    this.showLatency(version);
    this.showThroughput(version);
    this.showAgreement(version);
    this.showLayers(version);
  }

  showAlerts(version) {
    const tripped = list(version.pairs).filter((pair) => pair.guard && pair.guard.tripped);
    const text = tripped.map((pair) => pair.variant + ': ' + pair.guard.reason).join('\n');
    if (this.alerts.dataset.text === text) return; // spoken once, not at every reading
    this.alerts.dataset.text = text;
    this.alerts.replaceChildren(
      ...tripped.map((pair) =>
        element(
          'p',
          {class: 'alert'},
          element('strong', {}, 'Guard: ' + pair.reference + ' answers for ' + pair.variant + ' '),
          'since ' + clockText(pair.guard.since_unix_seconds) + '. ' + pair.guard.reason,
        ),
      ),
    );
  }

  // Variants in the API's order, with the place that gives each its colour.
  loaded(version) {
    return list(version.variants)
      .map((variant, i) => ({variant, colour: seriesColour(i)}))
      .filter(({variant}) => variant.in_memory);
  }

  showVariants(version) {
    const reference = list(version.variants).find((v) => v.name === version.reference);
    const base = reference && reference.in_memory ? number(reference.memory.weights) : 0;
    this.variants.rows(
      list(version.variants).map((v) => {
        const roles = [v.name === version.primary && 'primary', v.name === version.reference && 'reference'].filter(
          Boolean,
        );
        const figure = (name, text) => ({text, key: figureKey(v.name, name)});
        const absent = {text: '–'};
        const latency = v.latency || {},
          memory = v.memory || {};
        const timed = (name) => (number(latency.requests) > 0 ? figure(name, format.ms(latency[name])) : absent);
        return [
          v.name,
          {text: roles.join(', '), className: 'text'},
          {
            text: v.state + (v.reason ? ': ' + v.reason : ''),
            className: v.state === 'READY' ? 'text good' : 'text bad',
          },
          v.in_memory ? figure('file', format.bytes(memory.file)) : absent,
          v.in_memory ? figure('weights', format.bytes(memory.weights)) : absent,
          v.in_memory ? figure('resident', format.bytes(resident(memory))) : absent,
          v.in_memory && base > 0 ? figure('weights_ratio', (number(memory.weights) / base).toFixed(3)) : absent,
          v.in_memory ? figure('load_seconds', format.fixed(v.load_seconds, 3)) : absent,
          figure('requests_ok', format.count(v.requests_ok)),
          figure('requests_failed', format.count(v.requests_failed)),
          figure('queue_depth', format.count(v.queue_depth)),
          v.in_memory ? figure('requests_per_second', format.fixed(latency.requests_per_second, 1)) : absent,
          timed('p50_seconds'),
          timed('p90_seconds'),
          timed('p99_seconds'),
          timed('max_seconds'),
        ];
      }),
    );
  }

  showPairs(version) {
    const interval = (e, text) => (e && finite(e.value) ? text(e.lower) + ' to ' + text(e.upper) : '–');
    const db = (value) => (finite(value) ? format.fixed(value, 1) : '–');
    const rows = [];
    for (const pair of list(version.pairs)) {
      const guard = pair.guard
        ? pair.guard.tripped
          ? {text: 'tripped', className: 'bad'}
          : {text: 'holds', className: 'good'}
        : {text: '–'};
      for (const o of list(pair.outputs)) {
        const figure = (name, text) => ({text, key: figureKey(pair.variant, o.output + '/' + name)});
        rows.push([
          pair.variant,
          {text: o.output, className: 'text'},
          {text: 'live', className: 'text'},
          figure(
            'top1_agreement',
            o.top1_agreement && finite(o.top1_agreement.value) ? format.percent(o.top1_agreement.value) : '–',
          ),
          interval(o.top1_agreement, format.percent),
          figure('sqnr_db', o.sqnr_db ? db(o.sqnr_db.value) : '–'),
          interval(o.sqnr_db, db),
          figure('cosine', finite(o.cosine) ? format.fixed(o.cosine, 5) : '–'),
          figure('comparisons', format.count(o.comparisons)),
          figure('dropped', format.count(pair.dropped)),
          figure('latency_ratio', format.ratio(pair.latency_ratio)),
          guard,
        ]);
      }
    }
    for (const variant of list(version.variants)) {
      for (const r of list(variant.recorded)) {
        const figure = (name, text) => ({text, key: figureKey(variant.name, r.output + '/recorded_' + name)});
        rows.push([
          variant.name,
          {text: r.output, className: 'text'},
          {text: 'recorded', className: 'text'},
          figure('top1_agreement', finite(r.top1_agreement) ? format.percent(r.top1_agreement) : '–'),
          '–',
          figure('sqnr_db', db(r.sqnr_db)),
          '–',
          figure('cosine', format.fixed(r.cosine, 5)),
          format.count(r.samples),
          '–',
          '–',
          '–',
        ]);
      }
    }
    this.pairs.rows(rows);
    this.pairs.node.hidden = rows.length === 0;
  }

  showMemory(version) {
    const figure = this.figure(
      'memory',
      () =>
        new Figure('Memory', 'by kind, against the reference; the file beside it', ['variant', ...KINDS, 'file'], {
          type: 'bar',
          options: {
            indexAxis: 'y',
            scales: {
              x: {stacked: true, title: {text: 'bytes'}, ticks: {callback: format.bytes, maxTicksLimit: 6}},
              y: {stacked: true, title: {display: false}},
            },
          },
        }),
    );
    const loaded = this.loaded(version).map(({variant}) => variant);
    const bars = KINDS.map((kind, i) => ({
      label: kind,
      stack: 'resident',
      backgroundColor: style('--kind-' + i),
      data: loaded.map((v) => number(v.memory[kind])),
    }));
    bars.push({
      label: 'file (on disk)',
      stack: 'file',
      backgroundColor: style('--soft'),
      data: loaded.map((v) => number(v.memory.file)),
    });
    const reference = loaded.find((v) => v.name === version.reference);
    const summary = loaded
      .map(
        (v) =>
          v.name +
          ' ' +
          format.bytes(resident(v.memory)) +
          (reference && v !== reference
            ? ', ' + format.percent(resident(v.memory) / resident(reference.memory)) + ' of ' + reference.name
            : ''),
      )
      .join('; ');
    figure.show(
      {labels: loaded.map((v) => v.name), datasets: bars},
      summary,
      loaded.map((v) => [
        v.name,
        ...[...KINDS, 'file'].map((kind) => ({
          text: format.bytes(v.memory[kind]),
          key: figureKey(v.name, 'memory/' + kind),
        })),
      ]),
    );
  }

  showLatency(version) {
    const figure = this.figure(
      'latency',
      () =>
        new Figure(
          'Latency',
          "share of the last minute's requests answered within a time",
          ['variant', 'requests', 'mean ms', 'p50 ms', 'p90 ms', 'p95 ms', 'p99 ms', 'max ms'],
          {
            type: 'line',
            options: {
              parsing: false,
              scales: {
                x: {
                  type: 'logarithmic',
                  title: {text: 'latency, ms'},
                  ticks: {
                    autoSkip: false,
                    maxRotation: 0,
                    callback: (v) =>
                      /^[125]/.test(v.toExponential()) && /^[125](\.0+)?e/.test(v.toExponential())
                        ? String(Number(v.toPrecision(2)))
                        : null,
                  },
                },
                y: {title: {text: 'requests, %'}, min: 0, max: 100},
              },
            },
          },
        ),
    );
    const loaded = this.loaded(version).filter(({variant}) => variant.latency && number(variant.latency.requests) > 0);
    const datasets = loaded.map(({variant, colour}) => {
      let seen = 0;
      const points = [];
      for (const bucket of list(variant.latency.buckets)) {
        if (points.length === 0) points.push({x: Math.max(bucket.lower_seconds, 1e-6) * 1e3, y: 0});
        seen += number(bucket.requests);
        points.push({x: bucket.upper_seconds * 1e3, y: (100 * seen) / number(variant.latency.requests)});
      }
      return {...lineStyle, label: variant.name, borderColor: colour, backgroundColor: colour, data: points};
    });
    const summary =
      loaded.length === 0
        ? 'No request in the last minute'
        : loaded
            .map(
              ({variant}) =>
                variant.name +
                ': median ' +
                format.ms(variant.latency.p50_seconds) +
                ' ms, 99 % within ' +
                format.ms(variant.latency.p99_seconds) +
                ' ms',
            )
            .join('; ');
    figure.show(
      {datasets},
      summary,
      loaded.map(({variant: v}) => [
        v.name,
        format.count(v.latency.requests),
        ...['mean', 'p50', 'p90', 'p95', 'p99', 'max'].map((q) => format.ms(v.latency[q + '_seconds'])),
      ]),
    );
  }

  showThroughput(version) {
    const rate = this.figure('throughput', () =>
      liveFigure(
        'Throughput',
        'answers, mean of the last minute',
        ['variant', 'requests/s', 'answered', 'rows', 'batches'],
        'requests/s',
      ),
    );
    const queue = this.figure('queue', () =>
      liveFigure('Queue', 'requests that wait', ['variant', 'waiting'], 'requests'),
    );
    const rates = [],
      queues = [];
    for (const {variant, colour} of this.loaded(version)) {
      this.history.add('rate ' + variant.name, number((variant.latency || {}).requests_per_second));
      this.history.add('queue ' + variant.name, number(variant.queue_depth));
      const look = {...lineStyle, label: variant.name, borderColor: colour, backgroundColor: colour};
      rates.push({...look, data: this.history.points('rate ' + variant.name)});
      queues.push({...look, stepped: true, data: this.history.points('queue ' + variant.name)});
    }
    const loaded = this.loaded(version).map(({variant}) => variant);
    rate.show(
      {datasets: rates},
      'Now ' +
        loaded
          .map((v) => v.name + ' ' + format.fixed((v.latency || {}).requests_per_second, 1) + ' requests per second')
          .join('; '),
      loaded.map((v) => [
        v.name,
        format.fixed((v.latency || {}).requests_per_second, 1),
        format.count(v.requests_ok),
        format.count(v.rows),
        format.count(v.batches),
      ]),
    );
    queue.show(
      {datasets: queues},
      'Now ' + loaded.map((v) => v.name + ' ' + format.count(v.queue_depth)).join('; '),
      loaded.map((v) => [v.name, format.count(v.queue_depth)]),
    );
  }

  // What a guard judges of each output: top-1 agreement where there are classes, and SQNR.
  showAgreement(version) {
    const outputs = [...new Set(list(version.pairs).flatMap((pair) => list(pair.outputs).map((o) => o.output)))].slice(
      0,
      MAX_OUTPUTS,
    );
    for (const output of outputs) {
      const found = list(version.pairs).flatMap((pair) =>
        list(pair.outputs)
          .filter((o) => o.output === output)
          .map((o) => ({pair, o})),
      );
      const classes = found.some(({o}) => o.top1_agreement && finite(o.top1_agreement.value));
      if (classes)
        this.showMeasure(version, output, found, {
          name: 'top1_agreement',
          title: 'Top-1 agreement',
          unit: '%',
          scale: 100,
        });
      this.showMeasure(version, output, found, {name: 'sqnr_db', title: 'SQNR', unit: 'dB', scale: 1});
    }
  }

  // One measure of every pair over time: the estimate, its interval as a band, the guard's bound.
  showMeasure(version, output, found, measure) {
    const {name, unit, scale} = measure;
    const figure = this.figure(
      name + ' ' + output,
      () =>
        new Figure(
          measure.title + ' of output ' + output,
          'with ' + version.reference + ", 95 % interval; dashed: the guard's bound",
          ['variant', 'value', 'lower', 'upper', 'bound', 'rows'],
          {
            type: 'line',
            options: {
              parsing: false,
              scales: {x: timeAxis, y: {title: {text: unit}, max: unit === '%' ? 100 : undefined}},
            },
          },
        ),
    );
    const datasets = [],
      rows = [],
      spoken = [];
    for (const {pair, o} of found) {
      const estimate = o[name];
      if (!estimate || !finite(estimate.value)) continue;
      const place = list(version.variants).findIndex((v) => v.name === pair.variant);
      const colour = seriesColour(Math.max(place, 0));
      const bound = boundOf(pair, name);
      const series = (part) => [name, output, part, pair.variant].join(' ');
      for (const part of ['value', 'lower', 'upper']) this.history.add(series(part), Number(estimate[part]) * scale);
      this.history.add(series('bound'), bound === undefined ? NaN : bound * scale);
      const points = (part) => this.history.points(series(part));
      const band = {...lineStyle, borderWidth: 0, backgroundColor: colour + '33'};
      datasets.push(
        {...lineStyle, label: pair.variant, borderColor: colour, backgroundColor: colour, data: points('value')},
        {...band, label: '_lower', data: points('lower'), fill: '+1'},
        {...band, label: '_upper', data: points('upper')},
      );
      if (bound !== undefined) {
        datasets.push({
          ...lineStyle,
          label: 'bound of ' + pair.variant,
          borderColor: style('--threshold'),
          borderDash: [6, 4],
          backgroundColor: 'transparent',
          data: points('bound'),
        });
      }
      const text = (value) => (finite(value) ? (Number(value) * scale).toFixed(2) + ' ' + unit : '–');
      rows.push([
        pair.variant,
        text(estimate.value),
        text(estimate.lower),
        text(estimate.upper),
        text(bound),
        format.count(o.rows),
      ]);
      spoken.push(
        pair.variant +
          ' ' +
          text(estimate.value) +
          ', between ' +
          text(estimate.lower) +
          ' and ' +
          text(estimate.upper) +
          (bound === undefined ? '' : ', bound ' + text(bound)),
      );
    }
    figure.show({datasets}, spoken.join('; ') || 'Nothing compared yet', rows);
  }

  showLayers(version) {
    const layered = list(version.variants)
      .map((variant, i) => ({variant, colour: seriesColour(i)}))
      .filter(({variant}) => list(variant.layers).length > 0);
    if (layered.length === 0) return;
    // Worst first in any variant.
    const worst = new Map();
    for (const {variant} of layered) {
      for (const layer of variant.layers)
        worst.set(layer.node, Math.min(worst.get(layer.node) ?? Infinity, Number(layer.sqnr_db)));
    }
    const nodes = [...worst.keys()].sort((a, b) => worst.get(a) - worst.get(b));
    const figure = this.figure(
      'layers',
      () =>
        new Figure(
          'Error by layer',
          "SQNR of each layer's result when it was compressed, worst first" +
            (nodes.length > MAX_LAYERS ? '; the ' + MAX_LAYERS + ' worst of ' + nodes.length : ''),
          ['layer', ...layered.flatMap(({variant}) => [variant.name + ' dB', variant.name + ' scheme'])],
          {
            type: 'bar',
            options: {
              scales: {
                x: {title: {display: false}, ticks: {autoSkip: false, maxRotation: 60, minRotation: 40}},
                y: {title: {text: 'dB'}, beginAtZero: true},
              },
            },
          },
        ),
    );
    figure.table.head(['layer', ...layered.flatMap(({variant}) => [variant.name + ' dB', variant.name + ' scheme'])]);
    const of = (variant, node) => variant.layers.find((layer) => layer.node === node);
    const shown = nodes.slice(0, MAX_LAYERS);
    const tail = (name) => (name.length > 22 ? '…' + name.slice(-21) : name);
    figure.show(
      {
        labels: shown.map(tail),
        datasets: layered.map(({variant, colour}) => ({
          label: variant.name,
          backgroundColor: colour,
          data: shown.map((node) => (of(variant, node) || {}).sqnr_db ?? null),
        })),
      },
      'Worst: ' + nodes[0] + ', ' + format.fixed(worst.get(nodes[0]), 1) + ' dB',
      nodes.map((node) => [
        node,
        ...layered.flatMap(({variant}) => {
          const layer = of(variant, node);
          return layer
            ? [
                {text: format.fixed(layer.sqnr_db, 1), key: figureKey(variant.name, 'layer/' + node)},
                {text: layer.scheme, className: 'text'},
              ]
            : ['–', '–'];
        }),
      ]),
    );
  }

  repaint() {
    for (const figure of this.figures.values()) figure.repaint();
  }
}

const views = new Map(); // by model and version

function showServer(server, unix) {
  const facts = [
    ['version', server.version],
    ['ISA', server.isa],
    ['slots', format.count(server.slots) + ' × ' + server.threads_per_slot + ' threads'],
    ['resident', format.bytes(server.resident_bytes)],
    ['without models', format.bytes(server.baseline_bytes)],
    ['requests in flight', format.bytes(server.requests_in_flight_bytes)],
    ['read at', clockText(unix)],
  ];
  const node = document.getElementById('server');
  node.dataset.readAt = String(unix);
  if (node.children.length !== facts.length) {
    node.replaceChildren(...facts.map(([name]) => element('div', {}, element('dt', {}, name), element('dd', {}))));
  }
  facts.forEach(([, text], i) => {
    node.children[i].lastChild.textContent = text;
  });
}

function show(response) {
  const unix = number(response.server.unix_seconds);
  const present = new Map();
  for (const model of list(response.models)) {
    if (list(model.versions).length === 0) present.set(model.name, {model});
    for (const version of list(model.versions)) present.set(model.name + ' ' + version.version, {model, version});
  }
  const main = document.getElementById('models');
  for (const [key, {model, version}] of present) {
    if (!views.has(key)) {
      const view = version ? new VersionView(model.name, version) : new UnavailableView(model.name);
      views.set(key, view);
      main.append(view.node);
    }
    views.get(key).update(version || model, unix);
  }
  for (const [key, view] of views) {
    if (present.has(key)) continue;
    view.node.remove();
    views.delete(key);
  }
  const index = [...views.values()].map((view) => view.id + '\n' + view.heading.textContent);
  const nav = document.getElementById('index');
  if (nav.dataset.index !== index.join('\n')) {
    nav.dataset.index = index.join('\n');
    nav.replaceChildren(
      ...[...views.values()].map((view) =>
        element('li', {}, element('a', {href: '#' + view.id}, view.heading.textContent)),
      ),
    );
  }
  showServer(response.server, unix); // last: its time says that all of the page is of this reading
}

// A model of which no version is served.
class UnavailableView {
  constructor(name) {
    this.id = 'model-' + encodeURIComponent(name);
    this.heading = element('h2', {id: this.id, tabindex: '-1'}, name);
    this.text = element('p', {class: 'facts'});
    this.node = element('section', {'aria-labelledby': this.id}, this.heading, this.text);
  }
  update(model) {
    this.text.textContent = model.state + (model.reason ? ': ' + model.reason : '');
  }
  repaint() {}
}

let last = null;

async function read() {
  const status = document.getElementById('status');
  try {
    const answer = await fetch('api/v1/variants', {cache: 'no-store', signal: AbortSignal.timeout(10000)});
    if (!answer.ok) throw new Error('the server answered ' + answer.status);
    last = await answer.json();
    show(last);
    if (status.className !== '' || status.textContent !== 'Live.') {
      status.className = '';
      status.textContent = 'Live.';
    }
  } catch (error) {
    const text = 'No figures from the server (' + error.message + '). What is shown below is old.';
    status.className = 'lost';
    if (status.textContent !== text) status.textContent = text;
  }
  setTimeout(read, PERIOD_MS);
}

// A page that becomes visible again, or whose colour scheme changes, is drawn anew.
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
  for (const view of views.values()) view.repaint();
  if (last) show(last);
});
Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
read();
