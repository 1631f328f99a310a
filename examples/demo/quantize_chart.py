"""The chart of the quantize part: error against size, and time beside peers."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from matplotlib.axes import Axes

from .chart_style import ACCENT, FAINT, INK, PEERS, STEPS, panels, save, styled
from .quantize_measure import Result

KINDS: dict[str | int, tuple[str, str, str]] = {
    "tensor": ("whole tensor", "X", STEPS[0]),
    "row": ("row", "s", STEPS[1]),
    128: ("128 columns", "^", STEPS[2]),
    64: ("64 columns", "D", STEPS[3]),
    32: ("32 columns", "o", STEPS[4]),
}

BARS = {
    "strop": ("strop", ACCENT),
    "eager into": ("eager torch, buffers kept", PEERS[0]),
    "eager": ("eager torch", PEERS[1]),
    "torch": ("torch's fake_quantize op, scales given", PEERS[2]),
}

# Of each format the coarsest and the finest blocks say enough about time.
TIMED = (
    (8, "tensor", True),
    (8, "row", True),
    (8, 32, True),
    (4, "row", True),
    (4, "row", False),
    (4, 32, True),
    (4, 32, False),
)


def draw(results: list[Result], path: Path, float_megabytes: float, threads: int) -> None:
    """Writes the chart."""
    weights = 8 * results[0].megabytes / results[0].bits_per_weight
    title = "Quantizing a sentence-embedding model"
    subtitle = (
        f"all-MiniLM-L6-v2: {weights:.1f} M weights of the encoder's Linear layers, "
        f"{float_megabytes:.1f} MB as float32"
    )
    with styled():
        figure, (left, right) = panels(title, subtitle, (14, 7.4))
        error_panel(left, results)
        time_panel(right, results, threads)
        save(figure, path)


def error_panel(axes: Axes, results: list[Result]) -> None:
    """SQNR over bits per weight: a thin line through the blocks of each format."""
    symmetric = [result for result in results if result.setting.symmetric]
    for bits, group in groupby(symmetric, key=lambda result: result.setting.bits):
        line = [r for r in group if r.setting.block != "tensor"]
        xs, ys = [r.bits_per_weight for r in line], [r.sqnr for r in line]
        axes.plot(xs, ys, color="#c5ced6", linewidth=1.4, zorder=1)
        axes.annotate(
            f"int{bits}",
            (xs[0], ys[0]),
            (-11, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            weight="bold",
        )
    for result in results:
        _, marker, colour = KINDS[result.setting.block]
        face = colour if result.setting.symmetric else "white"
        axes.plot(
            result.bits_per_weight,
            result.sqnr,
            marker,
            markersize=8,
            markerfacecolor=face,
            markeredgecolor=colour,
            markeredgewidth=1.6,
            zorder=3,
        )
        if result.setting.block == "tensor":
            axes.annotate(
                f"{result.setting.format}, one scale per tensor",
                (result.bits_per_weight, result.sqnr),
                (-11, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                color=FAINT,
                size=9.5,
            )
    for label, marker, colour in KINDS.values():
        axes.plot([], [], marker, color=colour, markersize=8, label=label)
    axes.plot([], [], "o", mfc="white", mec=FAINT, mew=1.6, ms=8, label="with a zero point")
    axes.legend(title="A scale per", alignment="left", loc="upper left")
    axes.set_title("Error: an added bit buys about 6 dB")
    axes.set_xlabel("bits per weight, scales and zero points included")
    axes.set_ylabel("signal to quantization noise of the weights (dB)")
    axes.set_xlim(1.5, 9.5)
    axes.set_ylim(0, 50)
    axes.grid(True)


def time_panel(axes: Axes, results: list[Result], threads: int) -> None:
    """A group of bars a setting: strop first, then what else can do the same."""
    by_key = {(r.setting.bits, r.setting.block, r.setting.symmetric): r for r in results}
    chosen = [by_key[key] for key in TIMED]
    top, ticks, longest = 0.0, [], 0.0
    for result in chosen:
        begin = top
        for name, (_, colour) in BARS.items():
            if name not in result.milliseconds:
                continue
            time = result.milliseconds[name]
            axes.barh(top, time, 0.84, color=colour)
            label = f"{time:.0f}" if name == "strop" else f"{time:.0f}  ({result.ratio(name):.1f}×)"
            weight = "bold" if name == "strop" else "normal"
            axes.annotate(
                label,
                (time, top),
                (5, 0),
                textcoords="offset points",
                va="center",
                size=9,
                weight=weight,
                color=INK,
            )
            longest = max(longest, time)
            top += 1
        ticks.append((begin + top - 1) / 2)
        top += 0.9
    axes.set_yticks(ticks, [setting_label(result) for result in chosen])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(top - 0.5, -0.9)
    axes.set_xlim(0, longest * 1.17)
    axes.grid(True, axis="x")
    axes.spines["left"].set_visible(False)
    for label, colour in BARS.values():
        axes.barh([0], [0], color=colour, label=label)
    axes.legend(loc="lower right")
    axes.set_title("Time of one pass over all weights")
    axes.set_xlabel(
        f"milliseconds, {threads} thread{'s' if threads > 1 else ''} (in brackets: times strop's)"
    )


def setting_label(result: Result) -> str:
    """Format and blocks, in two lines."""
    setting = result.setting
    per = f"per {setting.block}" if isinstance(setting.block, str) else f"groups of {setting.block}"
    return f"{setting.format}\n{per}{'' if setting.symmetric else ', zp'}"
