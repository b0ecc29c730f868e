"""Class probabilities and true labels in; IoU, F1 and calibration error by component out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagface_core.bisenet import CLASSES, COMPONENTS
from cagface_core.train.photos import IGNORE

GROUPS = ("hair", "skin", "parts")
"""The heatmaps by name, in the order of ``cagface_core.bisenet.COMPONENTS``."""

BINS = 15
"""Equal bins of probability over which calibration is measured (Guo et al. 2017)."""

Floats = NDArray[np.float64]


def _zeros(*shape: int) -> Floats:
    return np.zeros(shape, np.float64)


@dataclass(slots=True)
class Reliability:
    """How often ``rows`` kinds of event with a stated probability happened, by bin."""

    rows: int
    count: Floats = field(init=False)
    stated: Floats = field(init=False)
    happened: Floats = field(init=False)

    def __post_init__(self) -> None:
        """Start with nothing seen."""
        self.count, self.stated, self.happened = (_zeros(self.rows, BINS) for _ in range(3))

    def add(self, probabilities: NDArray[np.float32], events: NDArray[np.bool_]) -> None:
        """Count (rows, n) probabilities in [0, 1] and whether each event happened."""
        bins = np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)
        bins = (bins + BINS * np.arange(self.rows)[:, None]).ravel()
        size, shape = self.rows * BINS, (self.rows, BINS)
        self.count += np.bincount(bins, minlength=size).reshape(shape)
        self.stated += np.bincount(bins, probabilities.ravel(), size).reshape(shape)
        self.happened += np.bincount(bins, events.ravel(), size).reshape(shape)

    def error(self) -> Floats:
        """Expected calibration error of each row: 0 is honest, NaN where nothing was seen."""
        gaps = np.abs(self.stated - self.happened).sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.asarray(gaps / self.count.sum(axis=1), np.float64)


class Tally:
    """Sums over the pixels of many pictures; classes the labels do not know are background."""

    def __init__(self, known: Sequence[str]) -> None:
        """Start with nothing seen.

        Args:
            known: the names of ``CLASSES`` that these labels tell apart; the others' probability
                goes to the background, where such labels put their pixels.
        """
        self.known = [k for k, name in enumerate(CLASSES) if name in known]
        self.pictures = 0
        self._unknown = [k for k in range(len(CLASSES)) if k not in self.known]
        self._confusion = _zeros(len(CLASSES), len(CLASSES))
        self._group_confusion = _zeros(len(GROUPS) + 1, len(GROUPS) + 1)
        self._classes = Reliability(len(CLASSES))
        self._groups = Reliability(len(GROUPS))
        self._top = Reliability(1)

    def add(self, probabilities: NDArray[np.float32], labels: NDArray[np.uint8]) -> None:
        """Count one picture.

        Args:
            probabilities: (classes, H, W) in [0, 1].
            labels: (H, W) indices of ``CLASSES``, or IGNORE.
        """
        valid = labels != IGNORE
        truth = labels[valid].astype(np.int64)
        p = probabilities[:, valid]
        p[0] += p[self._unknown].sum(axis=0)
        p[self._unknown] = 0
        found = p.argmax(axis=0)
        self._confusion += _confusion(truth, found, len(CLASSES))
        self._classes.add(p, truth == np.arange(len(CLASSES))[:, None])
        self._top.add(p.max(axis=0, keepdims=True), (found == truth)[None])
        group_of = np.zeros(len(CLASSES), np.int64)  # 0 is what belongs to no component
        for g, classes in enumerate(COMPONENTS, start=1):
            group_of[list(classes)] = g
        maps = np.stack([p[list(classes)].sum(axis=0) for classes in COMPONENTS])
        rest = 1 - maps.sum(axis=0, keepdims=True)
        found, truth = np.concatenate([rest, maps]).argmax(axis=0), group_of[truth]
        self._group_confusion += _confusion(truth, found, len(GROUPS) + 1)
        self._groups.add(maps, truth == np.arange(1, len(GROUPS) + 1)[:, None])
        self.pictures += 1

    def report(self) -> dict[str, Any]:
        """Give the figures by name; None where no pixel was of that class or taken for it."""
        classes = _figures(self._confusion, self._classes)
        groups = _figures(self._group_confusion, self._groups, first=1)
        return {
            "pictures": self.pictures,
            "classes": {CLASSES[k]: classes[k] for k in self.known},
            "groups": dict(zip(GROUPS, groups, strict=True)),
            "top_label_ece": _round(self._top.error()[0]),
        }


def _confusion(truth: NDArray[np.int64], found: NDArray[np.int64], size: int) -> Floats:
    """Count pixels by (truth, found)."""
    flat = np.bincount(truth * size + found, minlength=size * size)
    return flat.reshape(size, size).astype(np.float64)


def _figures(
    confusion: Floats, reliability: Reliability, first: int = 0
) -> list[dict[str, float | None]]:
    """IoU, F1 and calibration error of the rows of a confusion matrix from ``first`` on."""
    both = np.diag(confusion)
    either = confusion.sum(axis=0) + confusion.sum(axis=1)
    with np.errstate(invalid="ignore"):
        iou, f1 = both / (either - both), 2 * both / either
    return [
        {"iou": _round(iou[k]), "f1": _round(f1[k]), "ece": _round(error)}
        for k, error in enumerate(reliability.error(), start=first)
    ]


def _round(value: float) -> float | None:
    """Round to 4 digits; None for NaN, which JSON has not."""
    return None if np.isnan(value) else round(float(value), 4)


def markdown(report: Mapping[str, Any]) -> str:
    """Write a report of ``components.measure`` as tables."""
    lines = [
        f"# The component network, split `{report['split']}`",
        "",
        f"Parser {report['parser']}.",
    ]
    for reference, part in report["references"].items():
        names = [*part["known"], *(f"**{group}**" for group in GROUPS)]
        what = (
            f"{part['pictures']} pictures of {part['people']} people. IoU / F1; bold: the three "
            "heatmaps; px: side of the picture the parser is given."
        )
        lines += [
            "", f"## Against {reference}", "", what,
            "", _row("input", "px", *names), _row(*["---"] * (len(names) + 2)),
        ]  # fmt: skip
        for condition, sizes in part["conditions"].items():
            for size, scores in sizes.items():
                cells = [*scores["classes"].values(), *scores["groups"].values()]
                pairs = (f"{_short(c['iou'])} / {_short(c['f1'])}" for c in cells)
                lines.append(_row(condition, size, *pairs))
        what = (
            f"Expected calibration error, {BINS} bins, of each probability against its label, "
            "before pooling; `top`: of the likeliest class."
        )
        lines += [
            "", what, "", _row("input", "px", *names, "top"), _row(*["---"] * (len(names) + 3)),
        ]  # fmt: skip
        for condition, sizes in part["conditions"].items():
            for size, scores in sizes.items():
                cells = [*scores["classes"].values(), *scores["groups"].values()]
                errors = [*(c["ece"] for c in cells), scores["top_label_ece"]]
                lines.append(_row(condition, size, *(_short(e, 4) for e in errors)))
    return "\n".join(lines) + "\n"


def to_json(report: Mapping[str, Any]) -> str:
    """Write a report as JSON, sizes as strings."""
    return json.dumps(report, indent=1, ensure_ascii=False) + "\n"


def _row(*cells: str | int) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _short(value: float | None, digits: int = 3) -> str:
    """Write a share without its leading zero."""
    return "-" if value is None else f"{value:.{digits}f}".removeprefix("0")
