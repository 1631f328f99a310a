"""The quantize part: what each format costs a sentence-embedding model, and how fast strop is."""

from __future__ import annotations

from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .model import PARAPHRASES, load_model
from .part import Context, Part
from .quantize_chart import draw
from .quantize_measure import Bench, Result
from .quantize_setting import Setting

# Blocks of a format in order of size on disk, formats from wide to narrow.
SETTINGS = (
    Setting(8, "tensor"),
    Setting(8, "row"),
    Setting(8, 128),
    Setting(8, 32),
    Setting(6, "row"),
    Setting(6, 64),
    Setting(5, "row"),
    Setting(5, 64),
    Setting(4, "row"),
    Setting(4, "row", symmetric=False),
    Setting(4, 128),
    Setting(4, 64),
    Setting(4, 32),
    Setting(4, 32, symmetric=False),
    Setting(3, 32),
    Setting(3, 32, symmetric=False),
    Setting(2, 32),
    Setting(2, 32, symmetric=False),
)


def measure_all(bench: Bench, context: Context) -> list[Result]:
    """Measures every setting behind a progress bar."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=context.console,
        transient=True,
    )
    results = []
    with progress:
        task = progress.add_task("quantize", total=len(SETTINGS))
        for setting in SETTINGS:
            progress.update(task, description=f"{setting.format} {block_name(setting):<10}")
            results.append(bench.measure(setting))
            progress.advance(task)
    return results


def block_name(setting: Setting) -> str:
    """The blocks in a word or a number, with a mark for a zero point."""
    return f"{setting.block}{'' if setting.symmetric else ' + zp'}"


def table(results: list[Result]) -> Table:
    """A row a setting; a line between formats."""
    grid = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
    grid.add_column("format\n ")
    grid.add_column("scale per\n ", no_wrap=True)
    for title in (
        "size\nMB",
        "bits per\nweight",
        "SQNR\ndB",
        "cosine\nmean",
        "cosine\nmin",
        "pair\nchange",
        "strop\nms",
        "eager torch\nms (x strop)",
        "eager into out\nms (x strop)",
        "torch's own op\nms (x strop)",
    ):
        grid.add_column(title, justify="right", no_wrap=True)
    for result, following in zip(results, [*results[1:], results[-1]], strict=True):
        setting = result.setting
        grid.add_row(
            setting.format,
            block_name(setting),
            f"{result.megabytes:.2f}",
            f"{result.bits_per_weight:.2f}",
            f"{result.sqnr:.1f}",
            f"{result.cosine_mean:.4f}",
            f"{result.cosine_min:.4f}",
            f"{result.pair_change:.4f}",
            f"[bold]{result.milliseconds['strop']:.1f}[/]",
            *(time_cell(result, name) for name in ("eager", "eager into", "torch")),
            end_section=following.setting.bits != setting.bits,
        )
    return grid


def time_cell(result: Result, contender: str) -> str:
    """A peer's time and its ratio to strop's, or a dash where the peer cannot do it."""
    if contender not in result.milliseconds:
        return "[dim]-[/]" + " " * 8
    return f"{result.milliseconds[contender]:.1f} [dim]({result.ratio(contender):4.1f}x)[/]"


def span(results: list[Result], contender: str) -> str:
    """The smallest and the largest ratio of a peer's time to strop's."""
    ratios = [result.ratio(contender) for result in results if contender in result.milliseconds]
    return f"{min(ratios):.1f}-{max(ratios):.1f}x"


def reading(results: list[Result], float_megabytes: float) -> str:
    """What the table says, in one sentence; the numbers are those of this run."""
    faithful = [result for result in results if result.cosine_min >= 0.99]
    smallest = min(faithful, key=lambda result: result.megabytes)
    share = 100 * smallest.megabytes / float_megabytes
    return (
        f"Smallest with every cosine >= 0.99: {smallest.setting.format} per "
        f"{block_name(smallest.setting)}, {share:.0f} % of float32. "
        f"Eager torch takes {span(results, 'eager')} strop's time, "
        f"{span(results, 'eager into')} with a kept buffer, "
        f"torch's own op {span(results, 'torch')}."
    )


def run(context: Context) -> list[Path]:
    """Measures, prints the table and its reading, and draws the chart."""
    model = load_model()
    bench = Bench(model)
    float_megabytes = 4 * bench.weight_count / 1e6
    count = len(PARAPHRASES)
    alike, apart = bench.similarities[:count], bench.similarities[count:]
    context.console.print(
        f"all-MiniLM-L6-v2: its {len(bench.weights)} encoder Linear weights "
        f"({bench.weight_count / 1e6:.1f} M, {float_megabytes:.1f} MB as float32) are quantized; "
        f"embeddings, biases and norms ({model.other_parameters / 1e6:.1f} M) stay float32. "
        f"{len(bench.similarities)} sentence pairs: paraphrases have similarities of "
        f"{alike.min():.2f} to {alike.max():.2f}, unrelated ones {apart.min():.2f} to "
        f"{apart.max():.2f}.\n"
    )
    results = measure_all(bench, context)
    context.console.print(table(results))
    context.console.print(
        "\n[dim]scale per: what shares a float32 scale (a number: that many columns); + zp: and an "
        "8-bit zero point. Cosine: with the original's embedding, over all sentences. Times: one "
        "pass over all weights, medians of passes that take turns; strop and eager find the scales, "
        "torch's own op is given them. All results of a row are equal to the bit.[/]"
    )
    context.console.print(f"\n{reading(results, float_megabytes)}")
    chart = context.out / f"{PART.name}.png"
    draw(results, chart, float_megabytes, context.threads)
    return [chart]


PART = Part("quantize", "quantize: a sentence-embedding model in fewer bits", run)
