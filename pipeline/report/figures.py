"""Diagrams as SVG text for a page: lines and letters take the page's own colour, light or dark."""

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from pipeline.report.confusions import ConfusionMatrix
from softlabels.calibration.report import Bin
from softlabels.texts import printable

_INK = "#010203"  # becomes the page's colour
_BLUE, _ORANGE = "#3b82c4", "#d9822b"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # class names may hold dollars
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
}


@matplotlib.rc_context(_STYLE)
def histogram(name: str, values: np.ndarray, label: str, *, limits: tuple[float, float] | None = None) -> str:
    """How many windows have which value; NaN is left out."""
    figure = Figure(figsize=(5, 2.6), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(values[~np.isnan(values)], bins=40, range=limits, color=_BLUE)
    axes.set(xlabel=label, ylabel="windows")
    return _svg(name, figure)


@matplotlib.rc_context(_STYLE)
def reliability_diagram(bins: Sequence[Bin]) -> str:
    """How often a class is present where the teacher says so much; a perfect teacher is on the diagonal."""
    figure = Figure(figsize=(5, 4.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    said = [b.said for b in bins]
    upper.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, linestyle=":", label="exactly as sure as it should be")
    upper.plot(said, [b.present for b in bins], "o-", color=_ORANGE, label="this teacher")
    figure.legend(frameon=False, loc="outside upper center", ncols=2)
    upper.set(ylabel="share annotated", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    lower.bar(said, [b.count for b in bins], width=0.04, color=_BLUE)
    lower.set(xlabel="the teacher's probability", ylabel="labels", yscale="log")
    lower.yaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
    lower.yaxis.set_minor_formatter(NullFormatter())
    return _svg("reliability", figure)


@matplotlib.rc_context(_STYLE)
def heat_map(matrix: ConfusionMatrix, names: Sequence[str]) -> str:
    """The confusion matrix, rows and columns named, on a logarithmic scale from 0.001 to 1."""
    rows, columns = matrix.mean.shape
    figure = Figure(figsize=(3.2 + 0.32 * columns, 2.6 + 0.26 * rows), layout="constrained")
    axes = figure.add_subplot()
    shown = np.log10(np.clip(matrix.mean, 1e-3, 1))
    cells = axes.pcolormesh(shown[::-1], cmap="viridis", vmin=-3, vmax=0, edgecolors="none")
    size = {"shrink": min(1, 6 / columns), "aspect": 18, "anchor": (0, 0.5), "pad": 0.02}  # seen without scrolling
    legend = figure.colorbar(cells, ax=axes, location="top", label="mean probability", **size)
    legend.set_ticks([-3, -2, -1, 0], labels=["0.001", "0.01", "0.1", "1"])
    legend.ax.tick_params(labelsize=8)
    legend.outline.set_visible(False)
    for y, x in np.argwhere(matrix.mean >= 0.005):
        value = matrix.mean[y, x]
        ink = "black" if shown[y, x] > -1 else "white"
        text = f"{value:.2f}".lstrip("0") if value < 0.995 else "1"
        axes.text(x + 0.5, rows - y - 0.5, text, ha="center", va="center", fontsize=6.5, color=ink)
    axes.set_xticks(np.arange(columns) + 0.5, [_short(names[c]) for c in matrix.columns], rotation=55, ha="right")
    ticks = [f"{_short(names[c])} ({n:,})" for c, n in zip(matrix.rows, matrix.windows, strict=True)]
    axes.set_yticks(rows - np.arange(rows) - 0.5, ticks)
    axes.tick_params(length=0, labelsize=8)
    axes.set_xlabel("mean probability of ...")
    axes.set_ylabel("where the teacher hears most ...")
    return _svg("confusions", figure)


def _svg(name: str, figure: Figure) -> str:
    matplotlib.rcParams["svg.hashsalt"] = name  # a page has several: their ids must differ
    sink = io.StringIO()
    figure.savefig(sink, format="svg", transparent=True, metadata={"Date": None})
    text = sink.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    return re.sub(r'(<svg [^>]*?)width="[^"]*pt" height="[^"]*pt"', r'\1role="img"', text, count=1)


def _short(name: str) -> str:
    """The common name of `Scientific name_Common name`, at most 26 letters."""
    name = printable(name.rpartition("_")[2] or name)
    return name if len(name) <= 26 else f"{name[:25]}…"
