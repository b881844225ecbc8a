"""The offline report as one HTML page that needs nothing else: plots are SVG inside it."""

from __future__ import annotations

import datetime as dt
import html
import io
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kanarya_inference.training.evaluation import HIGHER_IS_BETTER, NAMES

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse }
td, th { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left }
.PASS { color: #17692e }
.FAIL { color: #a1201d }
figure { display: inline-block; margin: 0 1rem 1rem 0 }
svg { max-width: 100%; height: auto }
code { font-size: .85em }
"""


def page(report: Mapping[str, Any], plots: Mapping[str, NDArray[Any]]) -> str:
    """Return the page. The same report gives the same bytes."""
    verdict, version = report["verdict"], html.escape(str(report["version"]))
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in report["reasons"])
    figures = [_figure(_roc, plots, "ROC"), _figure(_calibration_of(report), plots, "Calibration"), _figure(_histogram, plots, "Scores")]
    if "walkForward" in report:
        figures.append(_figure(_walk_of(report), plots, "Walking forward", width=9.0))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Model {version}: {verdict}</title><style>{STYLE}</style>"
        f"<h1>Model {version}: <span class={verdict}>{verdict}</span></h1>{f'<ul>{reasons}</ul>' if reasons else ''}"
        f"<p>{report['golden']['rows']} golden rows, {report['golden']['prevalence']:.1%} positive.<br>Golden set <code>"
        f"{html.escape(report['golden']['sha256'])}</code><br>Model <code>{html.escape(report['modelSha256'])}</code></p>"
        f"{_measures(report)}{_baseline(report)}<h2>Plots</h2>{''.join(figures)}</html>\n"
    )


def _measures(report: Mapping[str, Any]) -> str:
    rows = []
    for name, value in report["measures"].items():
        bounds, limit = report["intervals"].get(name), report["gates"][name]
        sign = "≥" if HIGHER_IS_BETTER[name] else "&lt;"
        rows.append(f"<tr><td>{NAMES[name]}<td>{value:.4f}<td>{_interval(bounds)}<td>{sign} {limit:g}</tr>")
    error = report["calibration"]["expectedCalibrationError"]
    rows.append(f"<tr><td>Calibration error<td>{error:.4f}<td><td></tr>")
    return f"<h2>Measures</h2><table><tr><th><th>value<th>95 % interval<th>gate</tr>{''.join(rows)}</table>"


def _baseline(report: Mapping[str, Any]) -> str:
    if "baseline" not in report:
        return ""
    baseline = report["baseline"]
    rows = "".join(
        f"<tr><td>{NAMES[name]}<td>{value:+.4f}<td>{_interval(baseline['differenceIntervals'].get(name))}</tr>"
        for name, value in baseline["difference"].items()
    )
    mcnemar = baseline["mcnemar"]
    return (
        f"<h2>Against {html.escape(str(baseline['version']))}</h2><table><tr><th><th>difference<th>95 % interval</tr>{rows}</table>"
        f"<p>Rows that only this model labels rightly: {mcnemar['onlyCandidateRight']}; only the baseline: "
        f"{mcnemar['onlyBaselineRight']}; McNemar's test p = {mcnemar['pValue']:.4g}.</p>"
    )


def _interval(bounds: list[float] | None) -> str:
    return f"{bounds[0]:.4f} to {bounds[1]:.4f}" if bounds else ""


def _figure(
    draw: Callable[[Axes, Mapping[str, NDArray[Any]]], None], plots: Mapping[str, NDArray[Any]], title: str, width: float = 4.5
) -> str:
    # A Figure of its own and no pyplot: nothing global, no display. A fixed salt keeps the ids, and the bytes, the same.
    with mpl.rc_context({"svg.hashsalt": "kanarya", "font.size": 9}):
        figure = Figure(figsize=(width, 3.4), layout="tight")
        axes = figure.add_subplot()
        draw(axes, plots)
        axes.set_title(title)
        axes.grid(alpha=0.3)
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
    svg = target.getvalue()
    return f"<figure>{svg[svg.index('<svg') :]}</figure>"


def _roc(axes: Axes, plots: Mapping[str, NDArray[Any]]) -> None:
    for name in ("scores", "baseline"):
        if name in plots:
            labels = plots["labels"][np.argsort(-plots[name], kind="stable")]
            hits, misses = np.cumsum(labels) / labels.sum(), np.cumsum(1 - labels) / (1 - labels).sum()
            axes.plot([0, *misses], [0, *hits], label="candidate" if name == "scores" else name)
    axes.plot([0, 1], [0, 1], color="0.6", linestyle=":")
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    axes.legend()


def _histogram(axes: Axes, plots: Mapping[str, NDArray[Any]]) -> None:
    for label, name in ((0, "label 0"), (1, "label 1")):
        axes.hist(plots["scores"][plots["labels"] == label], bins=30, range=(0, 1), alpha=0.6, label=name)
    axes.set(xlabel="score", ylabel="rows")
    axes.legend()


def _calibration_of(report: Mapping[str, Any]) -> Callable[[Axes, Mapping[str, NDArray[Any]]], None]:
    def draw(axes: Axes, _: Mapping[str, NDArray[Any]]) -> None:
        bins = report["calibration"]["bins"]
        axes.plot([one["meanScore"] for one in bins], [one["positives"] for one in bins], marker="o")
        axes.plot([0, 1], [0, 1], color="0.6", linestyle=":")
        axes.set(xlabel="mean score", ylabel="share of positives")

    return draw


def _walk_of(report: Mapping[str, Any]) -> Callable[[Axes, Mapping[str, NDArray[Any]]], None]:
    def draw(axes: Axes, _: Mapping[str, NDArray[Any]]) -> None:
        steps = report["walkForward"]["results"]
        days: Any = [dt.datetime.fromtimestamp(one["from"], tz=dt.UTC) for one in steps]
        for name in ("auc", "precisionAt20", "recallAt20", "brier"):
            axes.plot(days, [one[name] for one in steps], marker=".", label=NAMES[name])
        axes.set_ylim(0, 1)
        axes.legend(ncol=4, loc="lower center")

    return draw
