// The figures of the last quarter of an hour: those that the server has, and those that come.

const POINTS = 900;

export class History {
  constructor() {
    this.components = new Map();
    this.edges = new Map();
  }

  load(told) {
    const read = (all) => new Map(Object.entries(all).map(([name, points]) =>
      [name, points.map(([at, values]) => [at, ...values])]));
    this.components = read(told.components);
    this.edges = read(told.edges);
  }

  add(figures) {
    const at = figures.at_ms;
    for (const row of figures.components) {
      this.#push(this.components, row.place,
        [at, row.rows_in_per_second, row.rows_out_per_second, row.lag, row.memory_bytes]);
    }
    for (const row of figures.edges) {
      this.#push(this.edges, row.edge, [at, row.rows_per_second, row.bytes_per_second, row.lag, row.waiting]);
    }
  }

  #push(all, name, point) {
    const points = all.get(name) ?? [];
    // What was loaded may have this one.
    if (points.length && points[points.length - 1][0] >= point[0]) return;
    points.push(point);
    if (points.length > POINTS) points.shift();
    all.set(name, points);
  }
}
