// Small plots on canvases, in the colours of the style sheet.

const KEPT = 240; // two minutes of half seconds

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);

/** A canvas at the screen's resolution: its context, and its size in CSS pixels. */
function fresh(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.font = "11px system-ui, sans-serif";
  return { context, width, height };
}

/** The next round number at or above `value`: 1, 2, 3 or 5 times a power of ten. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 3, 5, 10].map((step) => step * power).find((step) => step >= value - 1e-9);
}

/** Values over time: `lines` of {name, colour}; `top` is the least upper end, `goal` a dashed line. */
export class TimePlot {
  constructor(canvas, { lines, top, low = 0, unit = "", bars = false, steps = false, fixed = false }) {
    Object.assign(this, { canvas, lines, top, low, unit, bars, steps, fixed });
    this.values = [];
    this.goal = null;
  }

  add(values) {
    this.values.push(values);
    if (this.values.length > KEPT) this.values.shift();
    this.draw();
  }

  draw() {
    const { context, width, height } = fresh(this.canvas);
    if (!width) return;
    const most = Math.max(this.top, this.goal ?? 0, ...this.values.flat().filter(Number.isFinite));
    const top = this.fixed ? this.top : roundUp(most);
    const area = { left: 34, right: width - 4, top: 8, bottom: height - 16 };
    const y = (value) => area.bottom - (area.bottom - area.top) * Math.min(1, (value - this.low) / (top - this.low));
    const x = (index) => area.right - ((this.values.length - 1 - index) / (KEPT - 1)) * (area.right - area.left);
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const value of [this.low, this.low < 0 ? 0 : top / 2, top]) {
      context.fillStyle = colour("grid");
      context.fillRect(area.left, Math.round(y(value)), area.right - area.left, 1);
      context.fillStyle = colour("soft");
      context.fillText(String(Number(value.toPrecision(2))), area.left - 5, y(value));
    }
    this.#legend(context, area, height);
    context.save();
    context.beginPath();
    context.rect(area.left, 0, area.right - area.left + 2, height);
    context.clip();
    if (this.goal !== null) {
      context.strokeStyle = colour("soft");
      context.setLineDash([3, 3]);
      context.beginPath();
      context.moveTo(area.left, y(this.goal));
      context.lineTo(area.right, y(this.goal));
      context.stroke();
      context.setLineDash([]);
    }
    this.lines.forEach((line, which) => this.#line(context, line, which, x, y, area));
    context.restore();
  }

  #legend(context, area, height) {
    context.textAlign = "left";
    context.textBaseline = "alphabetic";
    let left = area.left;
    for (const line of this.lines.filter((one) => one.name)) {
      context.fillStyle = colour(line.colour);
      context.fillRect(left, height - 8, 10, 3);
      context.fillStyle = colour("soft");
      context.fillText(line.name, left + 14, height - 3);
      left += 24 + context.measureText(line.name).width;
    }
    context.textAlign = "right";
    context.fillStyle = colour("soft");
    context.fillText(this.values.length ? "now" : "waiting", area.right, height - 3);
  }

  #line(context, line, which, x, y, area) {
    context.strokeStyle = context.fillStyle = colour(line.colour);
    context.lineWidth = 1.6;
    context.lineJoin = "round";
    if (this.bars) {
      const wide = Math.max(1.5, (area.right - area.left) / KEPT - 0.5);
      this.values.forEach((values, index) => {
        if (values[which] > 0) context.fillRect(x(index) - wide, y(values[which]), wide, area.bottom - y(values[which]));
      });
      return;
    }
    context.beginPath();
    let pen = false;
    this.values.forEach((values, index) => {
      const value = values[which];
      if (!Number.isFinite(value)) { pen = false; return; }
      if (pen && this.steps) context.lineTo(x(index), y(this.values[index - 1][which]));
      context[pen ? "lineTo" : "moveTo"](x(index), y(value));
      pen = true;
    });
    context.stroke();
    const last = this.values.at(-1)?.[which];
    if (!Number.isFinite(last)) return;
    context.beginPath();
    context.arc(area.right, y(last), 2.5, 0, 7);
    context.fill();
  }
}

/** One bar per stage: p50 full, p95 pale, p99 a mark; in milliseconds. */
export function drawStages(canvas, stages) {
  const { context, width, height } = fresh(canvas);
  if (!width || !stages.length) return;
  const labels = Math.min(130, width * 0.34);
  const figures = 44;
  const room = width - labels - figures - 8;
  const top = roundUp(Math.max(1, ...stages.map((stage) => stage.p99)));
  const line = Math.min(24, (height - 18) / stages.length);
  context.textBaseline = "middle";
  stages.forEach((stage, index) => {
    const middle = (index + 0.5) * line;
    const thick = Math.max(4, line * 0.5);
    const length = (value) => Math.max(1, (room * value) / top);
    context.textAlign = "left";
    context.fillStyle = colour("text");
    context.fillText(stage.name, 0, middle, labels - 8);
    context.fillStyle = colour("grid");
    context.fillRect(labels, middle - thick / 2, room, thick);
    context.globalAlpha = 0.4;
    context.fillStyle = colour("a");
    context.fillRect(labels, middle - thick / 2, length(stage.p95), thick);
    context.globalAlpha = 1;
    context.fillRect(labels, middle - thick / 2, length(stage.p50), thick);
    context.fillStyle = colour("c");
    context.fillRect(labels + length(stage.p99) - 1, middle - thick / 2 - 1, 2, thick + 2);
    context.textAlign = "right";
    context.fillStyle = colour("soft");
    context.fillText(stage.p50.toFixed(1), width, middle);
  });
  context.textAlign = "left";
  context.fillStyle = colour("soft");
  context.fillText("bar p50, pale p95, mark p99; figure p50 in ms", 0, height - 6, width);
}
