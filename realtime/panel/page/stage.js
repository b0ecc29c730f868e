// The live picture: before on the left of the divider, after on the right, and the faces' boxes.

const DRAG_PX = 4; // a press that moves less is a click

export class Stage {
  /** `onFace(id)` is called when a face is clicked; `strengthOf(id)` says its strength, 0 to 1. */
  constructor(root, { onFace, strengthOf }) {
    this.root = root;
    this.canvas = root.querySelector("canvas");
    this.divider = root.querySelector("#divider");
    this.boxes = root.querySelector("#boxes");
    this.waiting = root.querySelector("#waiting");
    this.onFace = onFace;
    this.strengthOf = strengthOf;
    this.share = 0.5;
    this.pictures = null;
    this.faces = [];
    this.#listen();
  }

  /** Decode and show one message; see `pack` in pictures.py. */
  async show(buffer) {
    const length = new DataView(buffer).getUint32(0);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    const middle = 4 + length + header.before;
    const decode = (part) => createImageBitmap(new Blob([part], { type: "image/jpeg" }));
    const pictures = await Promise.all([
      decode(new Uint8Array(buffer, 4 + length, header.before)),
      decode(new Uint8Array(buffer, middle)),
    ]);
    this.pictures?.forEach((picture) => picture.close());
    this.pictures = pictures;
    this.faces = header.faces;
    this.root.style.aspectRatio = `${header.width} / ${header.height}`;
    this.root.dataset.number = header.number;
    this.waiting.hidden = true;
    this.draw();
    this.drawBoxes();
  }

  draw() {
    if (!this.pictures) return;
    const [before, after] = this.pictures;
    const { canvas } = this;
    if (canvas.width !== after.width || canvas.height !== after.height) {
      canvas.width = after.width;
      canvas.height = after.height;
    }
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(after, 0, 0);
    const edge = Math.round(this.share * canvas.width);
    if (edge > 0) {
      context.save();
      context.beginPath();
      context.rect(0, 0, edge, canvas.height);
      context.clip();
      context.drawImage(before, 0, 0, canvas.width, canvas.height);
      context.restore();
    }
  }

  drawBoxes() {
    const known = new Map([...this.boxes.children].map((box) => [Number(box.dataset.id), box]));
    for (const face of this.faces) {
      const box = known.get(face.id) ?? this.#newBox(face.id);
      known.delete(face.id);
      const strength = this.strengthOf(face.id);
      const [left, top, width, height] = face.box;
      const place = { left, top, width, height };
      for (const side in place) box.style[side] = `${100 * place[side]}%`;
      box.setAttribute("aria-pressed", String(strength > 0));
      box.setAttribute("aria-label", `Face ${face.id}`);
      box.title = strength > 0 ? "Click to leave this face as it is" : "Click to enhance this face";
      const notes = { guarded: ": kept plain", failed: ": failed" };
      const note = strength > 0 ? (notes[face.outcome] ?? "") : ": off";
      box.firstChild.textContent = `${face.id}${note}`;
    }
    known.forEach((box) => box.remove());
  }

  #newBox(id) {
    const box = document.createElement("button");
    box.type = "button";
    box.dataset.id = id;
    box.append(document.createElement("span"));
    // A key's click (detail 0) is never the end of a drag.
    box.addEventListener("click", (event) => (this.dragged && event.detail) || this.onFace(id));
    this.boxes.append(box);
    return box;
  }

  #moveTo(share) {
    this.share = Math.min(1, Math.max(0, share));
    const percent = Math.round(100 * this.share);
    this.divider.style.left = `${100 * this.share}%`;
    this.divider.setAttribute("aria-valuenow", percent);
    this.divider.setAttribute("aria-valuetext", `${percent} % before, ${100 - percent} % after`);
    this.draw();
  }

  #listen() {
    const { root, divider } = this;
    let from = null;
    const follow = (event) => {
      const area = root.getBoundingClientRect();
      this.#moveTo((event.clientX - area.left) / area.width);
    };
    root.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      from = event.clientX;
      this.dragged = false;
      if (!event.target.closest("#boxes button")) follow(event);
    });
    root.addEventListener("pointermove", (event) => {
      if (from === null) return;
      if (!this.dragged && Math.abs(event.clientX - from) > DRAG_PX) {
        this.dragged = true;
        root.setPointerCapture(event.pointerId);
      }
      if (this.dragged) follow(event);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      root.addEventListener(end, () => { from = null; });
    }
    divider.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? 0.1 : 0.02;
      const moves = {
        ArrowLeft: this.share - step, ArrowDown: this.share - step, PageDown: this.share - 0.1,
        ArrowRight: this.share + step, ArrowUp: this.share + step, PageUp: this.share + 0.1,
        Home: 0, End: 1,
      };
      if (event.key in moves) {
        event.preventDefault();
        this.#moveTo(moves[event.key]);
      }
    });
    this.#moveTo(this.share);
  }
}
