"""Figures of the benchmark as inline SVG, legible on light and dark pages.

Text and axes have the text color of the page (`currentColor`); a model has the same
color and line style in every figure.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from mmgraph.benchmark.class_curves import FALSE_POSITIVE_RATES
from mmgraph.benchmark.summary import (
    CONTROL,
    REFERENCE_MODEL,
    ModelSummary,
    SettingSummary,
)
from mmgraph.metrics.scores import metric_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"  # placeholder for the text color of the page
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"
MIN_BIN = 10  # fewest samples of a bin of the reliability curve that is drawn


@dataclass(frozen=True)
class Style:
    """Line style of a model.

    Attributes:
        color: Color that is legible on white and on near-black.
        dash: Dash pattern of matplotlib.
        width: Line width in points.
        marker: Marker of matplotlib.
    """

    color: str
    dash: str
    width: float
    marker: str = "o"


STYLES = {
    "mmgraph": Style("#e4572e", "-", 3.2),
    "mmgraph_no_edges": Style(INK, "--", 1.6, "D"),
    "mmgraph_data": Style("#e4572e", ":", 1.7),
    "mmgraph_feature": Style("#e4572e", "-.", 1.5),
    "mmgraph_model": Style("#e4572e", "--", 1.5),
    "late_logistic": Style("#3d85c6", "-", 1.5),
    "late_forest": Style("#3d85c6", "--", 1.5),
    "mean_logistic": Style("#2f9e78", "-", 1.5),
    "mean_forest": Style("#2f9e78", "--", 1.5),
    "knn_logistic": Style("#2f9e78", ":", 1.7),
    "hist_gradient_boosting": Style("#a678d8", "-", 1.5),
    "kernel_fusion": Style("#7a5230", ":", 1.7),
    "concat_mlp": Style("#b8860b", "-", 1.5),
    "token_transformer": Style("#b8860b", "--", 1.5),
    "best_single": Style("#8a8f98", "-", 1.5),
    "blend": Style("#d1619c", "-", 1.5),
    "logistic_drop": Style("#2f9e78", "-.", 1.5),
    "extra_trees_drop": Style("#d1619c", "--", 1.5),
    "boosting_drop": Style("#a678d8", "--", 1.5),
    "cca": Style("#4aa3a8", "-", 1.5),
    "ridge_pca": Style("#4aa3a8", "--", 1.5),
    "semantic_matching": Style("#7f8c3a", "-", 1.5),
    "two_tower": Style("#9c6b4f", "-", 1.5),
}
OTHERS = ("#d1619c", "#4aa3a8", "#7f8c3a", "#9c6b4f")


def style_of(model: str) -> Style:
    """Return the style of a model; one derived from its name if it is not listed."""
    index = sum(model.encode()) % len(OTHERS)
    return STYLES.get(model, Style(OTHERS[index], "-.", 1.5))


def legend_svg(model: str) -> str:
    """Return a small line in the style of a model, for a legend in HTML."""
    style = style_of(model)
    dashes = {"--": "6 3", ":": "2 3", "-.": "6 2 2 2"}.get(style.dash)
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        '<svg class="key" width="26" height="10" aria-hidden="true">'
        f'<line x1="1" y1="5" x2="25" y2="5" stroke="{_page_color(style.color)}" '
        f'stroke-width="{style.width:g}"{dash}/></svg>'
    )


def _page_color(color: str) -> str:
    return "currentColor" if color == INK else color


def curve_svg(block: SettingSummary) -> str:
    """Draw the metric over the test missing rate with bands of one standard error."""
    figure, (axes,) = _figure(1, (11.6, 4.7))
    for row in _back_to_front(block.rows):
        style = style_of(row.model)
        rates = np.array(list(row.at))
        mean = np.array([e.mean for e in row.at.values()])
        error = np.array([e.error for e in row.at.values()])
        axes.plot(
            rates, mean, style.dash, color=style.color, lw=style.width, zorder=_z(row)
        )
        axes.plot(
            rates,
            mean,
            style.marker,
            color=style.color,
            ms=style.width + 1.6,
            zorder=_z(row),
        )
        strength = 0.22 if row.model == REFERENCE_MODEL else 0.07
        axes.fill_between(
            rates,
            mean - error,
            mean + error,
            color=style.color,
            alpha=strength,
            lw=0,
        )
    axes.set_xticks(list(block.rates))
    axes.set_xlabel("share of the observed modalities removed at test time (nominal)")
    axes.set_ylabel(metric_title(block.metric))
    title = f"{metric_title(block.metric)} over the test missing rate, {block.dataset}"
    return _svg(figure, f"{block.dataset}-{block.train_missing}-curve", title)


def left_out_svg(block: SettingSummary) -> str:
    """Draw the metric without each modality: the reference as bars, others as dots."""
    reference = _reference(block)
    names = sorted(reference.left_out, key=lambda name: -reference.left_out[name].mean)
    figure, (axes,) = _figure(1, (6.4, 1.0 + 0.46 * len(names)))
    color = style_of(reference.model).color
    means = [reference.left_out[name].mean for name in names]
    errors = [reference.left_out[name].error for name in names]
    heights = np.arange(len(names))
    axes.barh(heights, means, 0.62, color=color, alpha=0.35, zorder=2)
    axes.errorbar(means, heights, xerr=errors, fmt="none", ecolor=color, lw=1.8)
    for row in block.rows:
        if row.model != reference.model and set(names) <= set(row.left_out):
            values = [row.left_out[name].mean for name in names]
            style = style_of(row.model)
            filled = style.color if style.dash == "-" else "none"
            axes.plot(
                values,
                heights,
                style.marker,
                ms=5,
                mfc=filled,
                mec=style.color,
                zorder=3,
            )
    full = next(iter(reference.at.values())).mean if reference.at else np.nan
    axes.axvline(full, color=INK, lw=1, ls=":", zorder=1)
    axes.set_yticks(heights, [f"without {name}" for name in names])
    axes.set_xlabel(metric_title(block.metric))
    axes.set_xlim(*_zoom([*_left_out_values(block, names), full]))
    axes.grid(axis="y", visible=False)
    title = f"{metric_title(block.metric)} without each modality, {block.dataset}"
    return _svg(figure, f"{block.dataset}-{block.train_missing}-left-out", title)


def calibration_svg(block: SettingSummary) -> str:
    """Draw observed accuracy over confidence at the lowest and the highest rate."""
    rates = sorted({block.rates[0], block.rates[-1]})
    figure, panels = _figure(len(rates), (3.2 * len(rates), 3.3))
    for axes, rate in zip(panels, rates, strict=True):
        low = 1 / block.facts["num_classes"]
        axes.plot([low, 1], [low, 1], color=INK, lw=1, ls=":")
        for row in _back_to_front(_shown(block)):
            count, confidence, correct = row.reliability[rate]
            kept = count >= MIN_BIN
            style = style_of(row.model)
            axes.plot(
                confidence[kept] / count[kept],
                correct[kept] / count[kept],
                style.dash,
                marker="o",
                ms=style.width + 1,
                color=style.color,
                lw=style.width,
                zorder=_z(row),
            )
        axes.set_title(_rate_title(rate), color=INK)
        axes.set_xlabel("confidence")
        axes.set_ylim(0, 1.02)
        axes.set_xlim(max(0, low - 0.03), 1.01)
    panels[0].set_ylabel("observed accuracy")
    title = f"Observed accuracy over confidence, {block.dataset}"
    return _svg(figure, f"{block.dataset}-{block.train_missing}-calibration", title)


def roc_svg(block: SettingSummary) -> str:
    """Draw ROC curves at the lowest and the highest rate, means over splits."""
    rates = sorted({block.rates[0], block.rates[-1]})
    figure, panels = _figure(len(rates), (3.2 * len(rates), 3.3))
    for axes, rate in zip(panels, rates, strict=True):
        axes.plot([0, 1], [0, 1], color=INK, lw=1, ls=":")
        for row in _back_to_front(_shown(block)):
            style, curve = style_of(row.model), row.roc[rate]
            axes.plot(
                FALSE_POSITIVE_RATES,
                curve,
                style.dash,
                color=style.color,
                lw=style.width,
                zorder=_z(row),
            )
        axes.set_title(_rate_title(rate), color=INK)
        axes.set_xlabel("false-positive rate")
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.01, 1.02)
    panels[0].set_ylabel("true-positive rate")
    title = f"ROC curves, {block.dataset}"
    return _svg(figure, f"{block.dataset}-{block.train_missing}-roc", title)


def _rate_title(rate: float) -> str:
    return f"{rate:g} removed" if rate else "no extra removal"


def shown_models(block: SettingSummary) -> tuple[str, ...]:
    """Return the models of small figures: mmgraph, the best three others."""
    return tuple(row.model for row in _shown(block))


def _shown(block: SettingSummary) -> tuple[ModelSummary, ...]:
    own = [row for row in block.rows if row.model.startswith(REFERENCE_MODEL)]
    return (*own, *[row for row in block.rows if row not in own][:3])


def _reference(block: SettingSummary) -> ModelSummary:
    return next(row for row in block.rows if row.model == block.reference)


def _back_to_front(rows: Sequence[ModelSummary]) -> list[ModelSummary]:
    return sorted(rows, key=_z)


def _z(row: ModelSummary) -> float:
    return {REFERENCE_MODEL: 4.0, CONTROL: 5.0}.get(row.model, 3.0)


def _left_out_values(block: SettingSummary, names: list[str]) -> list[float]:
    return [row.left_out[n].mean for row in block.rows for n in names if row.left_out]


def _zoom(values: list[float]) -> tuple[float, float]:
    """Return limits close to the values, so that small differences are visible."""
    low, high = np.nanmin(values), np.nanmax(values)
    room = 0.12 * (high - low) + 0.005
    return low - 3 * room, min(high + room, 1.0 + room)


def _figure(panels: int, size: tuple[float, float]) -> tuple["Figure", list["Axes"]]:
    from matplotlib.figure import Figure

    figure = Figure(size, layout="constrained")
    figure.patch.set_alpha(0)
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    for one in axes:
        one.patch.set_alpha(0)
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set(color=INK, alpha=0.45)
        one.tick_params(colors=INK, length=3)
        one.xaxis.label.set_color(INK)
        one.yaxis.label.set_color(INK)
        one.grid(color=INK, alpha=0.13, lw=0.7)
        one.set_axisbelow(True)
    return figure, axes


def _svg(figure: "Figure", salt: str, title: str) -> str:
    """Return the figure as a self-contained `<svg>` element with a title."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, dpi=72)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = text.replace(INK, "currentColor")
    text = re.sub(r"font: ([\d.]+px) [^;\"]+", rf"font: \1 {FONT}", text)
    opening, rest = text.split(">", 1)
    # without width and height the page decides the size
    opening = re.sub(r' (?:width|height)="[^"]*"', "", opening)
    return f'{opening} role="img"><title>{escape(title)}</title>{rest}'
