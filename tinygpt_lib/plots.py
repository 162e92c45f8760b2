"""Figures: each function takes data and returns labelled Axes; `picture` makes them a cell's output.

Colours are Okabe and Ito's (2008), which colour-blind readers can tell apart.
"""

import io
from functools import wraps
from itertools import cycle

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

BLUE, ORANGE, GREEN, RED, SKY, PURPLE = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7"
GREY, PALE = "#7a7a7a", "#e6e6e6"
COLOURS = (BLUE, ORANGE, GREEN, RED, SKY, PURPLE)
# Colour and hatching of what a filter cuts.
CUT_BY = {"top_k": (ORANGE, "////"), "top_p": (GREEN, "\\\\\\\\"), "min_p": (PURPLE, "||||"), "typical_p": (RED, "xxxx")}
MARKERS = ("o", "s", "^", "D", "v", "P")  # so that no line is told by its colour alone
STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.hashsalt": "tinygpt",
}
DPI = 110


def styled(draw):
    """`draw`, with our style instead of the reader's own settings of matplotlib."""

    @wraps(draw)
    def drawing(*arguments, **options):
        with matplotlib.rc_context(STYLE):
            return draw(*arguments, **options)

    return drawing


class Picture:
    """A figure as a cell's output, with the words that stand for it where it can't be seen."""

    def __init__(self, figure, alt):
        self.figure, self.alt = figure, alt

    @styled
    def png(self):
        """The picture as PNG bytes."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight", facecolor="white")
        return buffer.getvalue()

    def __repr__(self):
        return f"Picture: {self.alt}"

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"image/png": self.png(), "text/plain": repr(self)}, {"image/png": {"alt": self.alt}}


def picture(axes, alt):
    """The figure of `axes` as a Picture; `alt` says in a sentence what is to be seen."""
    return Picture(np.ravel(axes)[0].figure, alt)


@styled
def panels(columns, width=3.2, height=2.8, rows=1, **options):
    """Axes of a new figure, an array (rows, columns) or its only row."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return axes if rows > 1 else axes[0]


def _prepared(ax, width, height, title, xlabel, ylabel):
    ax = panels(1, width, height)[0] if ax is None else ax
    ax.set_title(title)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    return ax


def _name_ticks(ax, names):
    """Names below the x axis, slanted where there are many or long ones."""
    slanted = max(map(len, names)) * len(names) > 40
    slant = {"rotation": 50, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    ax.set_xticks(range(len(names)), names, **slant)


@styled
def heat_map(values, rows=(), columns=(), *, title, xlabel, ylabel, ax=None, numbers=True, limits=None, bar=None):
    """An array (R, C) as coloured squares; rows, columns: their names. White squares are nan or -inf.

    numbers writes the values in. limits=(low, high); with low < 0 the colours part at 0, blue above.
    bar: a label for a colour bar.
    """
    values = np.asarray(values, dtype=np.float64)
    R, C = values.shape
    ax = _prepared(ax, 1.6 + 0.5 * C, 1.2 + 0.42 * R, title, xlabel, ylabel)
    finite = values[np.isfinite(values)]
    low, high = limits or (min(0.0, finite.min()), finite.max())
    if low < 0:
        low, high = -max(-low, high), max(-low, high)
    shown = np.where(np.isfinite(values), values, np.nan)
    image = ax.imshow(shown, cmap="RdBu" if low < 0 else "Blues", vmin=low, vmax=high, aspect="auto")
    if len(columns):
        _name_ticks(ax, columns)
    if len(rows):
        ax.set_yticks(range(R), rows)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    if numbers and values.size <= 100:
        for (i, j), value in np.ndenumerate(values):
            dark = np.isfinite(value) and (abs(value) if low < 0 else value - low) > 0.6 * (high - max(low, 0))
            text = f"{round(value, 2) + 0.0:.2f}" if np.isfinite(value) else "−∞" if value < 0 else ""
            ax.text(j, i, text, ha="center", va="center", fontsize=8.5, color="white" if dark else "black")
    if bar:
        ax.figure.colorbar(image, ax=ax, label=bar, shrink=0.8)
    return ax


@styled
def lines(x, curves, *, title, xlabel, ylabel, ax=None, markers=True, log=""):
    """Curves {name: y values} over x, or over x values of their own, {name: (x, y)}.

    log: the axes with a logarithmic scale, "x", "y" or "xy".
    """
    ax = _prepared(ax, 5.6, 3.4, title, xlabel, ylabel)
    for (name, y), colour, marker in zip(curves.items(), cycle(COLOURS), cycle(MARKERS)):
        xs, ys = y if isinstance(y, tuple) else (x, y)
        ax.plot(xs, ys, color=colour, marker=marker if markers else None, markersize=4, label=name)
    for axis in log:
        getattr(ax, f"set_{axis}scale")("log")
    if len(curves) > 1:
        ax.legend()
    return ax


@styled
def bars(values, names, *, title, xlabel, ylabel, ax=None, colour=BLUE, limit=None):
    """One bar for each of values, under its name; limit: the axis's upper end."""
    ax = _prepared(ax, 1.5 + 0.55 * len(names), 2.8, title, xlabel, ylabel)
    ax.bar(range(len(names)), values, color=colour, width=0.7)
    _name_ticks(ax, names)
    if limit is not None:
        ax.set_ylim(0, limit)
    return ax


@styled
def points(groups, *, title, xlabel, ylabel, ax=None):
    """Groups {name: (labels, places (N, 2))} in the plane, each label where it covers least.

    Both axes have the same scale.
    """
    ax = _prepared(ax, 8.4, 5.6, title, xlabel, ylabel)
    for (name, (_, places)), colour, marker in zip(groups.items(), cycle(COLOURS), cycle(MARKERS)):
        ax.scatter(*np.transpose(places), color=colour, marker=marker, s=28, label=name)
    ax.margins(0.1)
    ax.set_aspect("equal", adjustable="datalim")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    ax.figure.draw_without_rendering()  # settles where the axes lie, so that labels can be measured
    places = np.concatenate([places for _, places in groups.values()])
    pixels = ax.transData.transform(places)
    taken = np.concatenate([pixels - 5, pixels + 5], axis=1)  # boxes: left, bottom, right, top
    for label, place in zip((label for labels, _ in groups.values() for label in labels), places):
        taken = np.vstack([taken, _write_beside(ax, label, place, taken)])
    return ax


def _write_beside(ax, label, place, taken):
    """Write a label on the side of its place where it covers least of the boxes taken; return its own box, in pixels."""
    centred = {"textcoords": "offset pixels", "ha": "center", "va": "center"}
    note = ax.annotate(label, place, xytext=(0, 0), fontsize=8.5, in_layout=False, **centred)
    box = note.get_window_extent().extents
    reach = (box[2:] - box[:2]) / 2 + (8, 4)
    sides = reach * [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 0.8), (-1, 0.8), (1, -0.8), (-1, -0.8)]
    boxes = box + np.tile(sides, 2)
    low, high = np.maximum(boxes[:, None, :2], taken[:, :2]), np.minimum(boxes[:, None, 2:], taken[:, 2:])
    covered = (high - low).clip(0).prod(axis=2).sum(axis=1)
    inside = ((boxes[:, :2] >= ax.bbox.min) & (boxes[:, 2:] <= ax.bbox.max)).all(axis=1)
    best = np.where(inside, covered, np.inf).argmin()
    note.set_position(sides[best])
    return boxes[best]


@styled
def loss_curves(history, steps=(), *, title, levels=None, total=None, ax=None):
    """The losses of a training: history as TrainState keeps it, and pale behind it the (step, loss) pairs of single steps.

    levels: {name: loss} to compare with. total: the run's length, so that a growing curve keeps its frame.
    """
    ax = _prepared(ax, 7.2, 3.8, title, "step", "loss (nats per token)")
    if len(steps):
        ax.plot(*zip(*steps), color=SKY, linewidth=0.8, alpha=0.7, label="training, each step")
    kinds = (("train_loss", "training, mean of the steps between", BLUE, "o"), ("val_loss", "validation", RED, "s"))
    for key, name, colour, marker in kinds:
        known = [(record["step"], record[key]) for record in history if record.get(key) is not None]
        if known:
            ax.plot(*zip(*known), color=colour, marker=marker, markersize=4, label=name)
    for name, level in (levels or {}).items():
        ax.axhline(level, color=GREY, linestyle=":", linewidth=1.2, zorder=0)
        at_the_right = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points", "va": "center"}
        ax.annotate(name, (1, level), xytext=(4, 0), color=GREY, **at_the_right)
    ax.set_xlim(0, total)
    if len(steps) or history:
        free = dict(loc="center right", bbox_to_anchor=(1, 0.42)) if levels else {}  # of falling curves, and of levels
        ax.legend(frameon=True, edgecolor="none", framealpha=0.9, **free)
    return ax


@styled
def shapes(steps, *, title, ax=None):
    """Arrays' shapes as rows of boxes, a box for each axis. steps: (what was done, a letter for each axis, the shape).

    Lines join the same axis in two rows, and an axis that ends with those that begin.
    """
    widest = max(len(names) for _, names, _ in steps)
    ax = panels(1, 2.6 + 1.1 * widest, 0.75 * len(steps))[0] if ax is None else ax
    colours, above = {}, {}
    for y, (done, names, shape) in enumerate(steps):
        sides = [*range(len(names)), widest]  # the last axis takes the room that is left
        here = {name: (sides[i] + sides[i + 1]) / 2 for i, name in reversed([*enumerate(names)])}
        for i, (name, size) in enumerate(zip(names, shape, strict=True)):
            colour = colours.setdefault(name, COLOURS[len(colours) % len(COLOURS)])
            ax.barh(y, sides[i + 1] - sides[i] - 0.1, 0.5, sides[i] + 0.05, color="white", edgecolor=colour, linewidth=2)
            ax.text((sides[i] + sides[i + 1]) / 2, y, f"{name} = {size}", ha="center", va="center")
        ended, begun = [n for n in above if n not in here], [n for n in here if n not in above]
        for a, b in [(n, n) for n in here if n in above] + [(a, b) for a in ended for b in begun]:
            ax.plot([above[a], here[b]], [y - 0.75, y - 0.25], color=colours[a], linewidth=1.2)
        above = here
    ax.set_yticks(range(len(steps)), [done for done, _, _ in steps])
    ax.set(title=title, xlim=(0, widest), ylim=(len(steps) - 0.6, -0.4), xticks=[])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return ax


@styled
def stages(trace, name, *, title, count=12):
    """A `sampling.trace` of logits (V,), stage by stage: bars of its `count` likeliest tokens and of all others together.

    Hatched is what the filters have cut so far; name(id) is what a token is called.
    """
    shown, others = np.split(trace.order, [count])
    groups = [*shown[:, None], others] if others.size else [*shown[:, None]]
    names = [*map(name, shown.tolist()), f"{others.size} others"][: len(groups)]
    called = lambda key: f"{key.replace('_', '-')} {getattr(trace.settings, key)}"  # noqa: E731
    before = [called(key) for key in ("repetition_penalty", "temperature") if getattr(trace.settings, key) != 1]
    whole = np.ones(trace.order.shape, dtype=bool)
    columns = [("the model", trace.raw, whole), (",\n".join(before), trace.scaled, whole)][: 1 + bool(before)]
    columns += [(f"{called(key)}:\n{kept.sum()} left", trace.scaled, kept) for key, kept in trace.kept.items()]
    columns += [(f"drawn from:\n{trace.effective_choices:.1f} choices", trace.final, whole)]
    axes = panels(len(columns), width=2.1, height=1.2 + 0.24 * len(groups), sharex=True, sharey=True)
    for ax, (heading, probs, kept) in zip(axes, columns):
        left, cut = ([probs[ids][mask[ids]].sum() for ids in groups] for mask in (kept, ~kept))
        ax.barh(range(len(groups)), left, color=BLUE, height=0.7)
        hatched = {"color": PALE, "edgecolor": GREY, "hatch": "////", "linewidth": 0.5}
        ax.barh(range(len(groups)), cut, left=left, height=0.7, label="cut", **hatched)
        _prepared(ax, 0, 0, heading, "probability", "token" if ax is axes[0] else "")
        if any(cut):
            ax.legend(loc="lower right")
    axes[0].set_yticks(range(len(groups)), names)
    axes[0].invert_yaxis()
    axes[0].set_xlim(0, 1.05 * axes[0].get_xlim()[1])  # so that no bar ends at the frame
    axes[0].figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return axes


@styled
def graph(nodes, arrows, *, title, ax=None):
    """A computation as boxes, what is made to the right of what it's made from.

    nodes: {name: (value, gradient)}, gradient None where it's still unknown; arrows: {(from, to): slope}.
    """
    column, row = _places(nodes, arrows)
    width, height = 0.35 + 0.085 * max(13, *map(len, nodes)), 0.78  # inches, as everything here
    x = {name: (width + 0.85) * column[name] for name in nodes}
    y = {name: 1.15 * row[name] for name in nodes}
    span = [(min(place.values()) - size, max(place.values()) + size) for place, size in ((x, 0.6 * width), (y, 0.7 * height))]
    directions = "values: forwards →     gradients: backwards ←     on an arrow: its slope"
    ax = _prepared(ax, *(high - low for low, high in span), title, directions, "")
    for name, (value, gradient) in nodes.items():
        corner = (x[name] - width / 2, y[name] - height / 2)
        round_box = {"boxstyle": "round,pad=0,rounding_size=0.1", "fc": "white", "ec": GREY}
        ax.add_patch(FancyBboxPatch(corner, width, height, **round_box))
        texts = (name, f"value {_number(value)}", f"gradient {'?' if gradient is None else _number(gradient)}")
        for text, up, colour in zip(texts, (0.24, 0, -0.24), ("black", BLUE, RED)):
            ax.text(x[name], y[name] + up, text, ha="center", va="center", fontsize=9.5, color=colour)
    for (start, end), slope in arrows.items():
        tail, head = (x[start] + width / 2, y[start]), (x[end] - width / 2, y[end])
        ax.annotate("", head, tail, arrowprops={"arrowstyle": "-|>", "color": GREY, "shrinkA": 0, "shrinkB": 0})
        middle = [(a + b) / 2 for a, b in zip(tail, head)]
        on_white = {"fc": "white", "ec": "none", "pad": 1.5}
        ax.text(*middle, f"× {_number(slope)}", ha="center", va="center", fontsize=9, bbox=on_white)
    ax.set(xlim=span[0], ylim=span[1], xticks=[], yticks=[], aspect="equal")
    ax.spines[:].set_visible(False)
    return ax


def _number(value):
    return f"{value:.4g}".replace("-", "−")


def _places(nodes, arrows):
    """Column and row of each node: the column by the longest way to the end.

    A node that is alone in its column is level with what it goes to.
    """
    column, row = {}, {}

    def place(name):
        if name not in column:
            column[name] = min((place(end) - 1 for start, end in arrows if start == name), default=0)
        return column[name]

    for name in nodes:
        place(name)
    for c in sorted(set(column.values()), reverse=True):
        names = [name for name in nodes if column[name] == c]
        targets = [row[end] for start, end in arrows if start == names[0]]
        for i, name in enumerate(names):
            row[name] = (len(names) - 1) / 2 - i if len(names) > 1 or not targets else float(np.mean(targets))
    return column, row


@styled
def decision_boundary(predict, points, labels, *, title, xlabel, ylabel, ax=None):
    """Two classes of points (N, 2), label > 0 and not, on the areas where predict, (M, 2) to (M,), is and isn't above 0."""
    ax = _prepared(ax, 3.6, 3.6, title, xlabel, ylabel)
    reach = 1.1 * np.abs(points).max()
    side = np.linspace(-reach, reach, 150)
    scores = predict(np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)).reshape(150, 150)
    ax.imshow(scores > 0, extent=(-reach, reach) * 2, origin="lower", cmap=ListedColormap(["#fbe8c4", "#cfe6f5"]), vmin=0, vmax=1)
    if scores.min() < 0 < scores.max():
        ax.contour(side, side, scores, levels=[0], colors="black", linewidths=1)
    for above, colour, marker in ((True, BLUE, "o"), (False, ORANGE, "s")):
        chosen = points[(labels > 0) == above]
        ax.scatter(*chosen.T, s=14, c=colour, marker=marker, edgecolors="white", linewidths=0.4)
    return ax


@styled
def word_map(words, values, rows=(), columns=(), *, title, xlabel, ylabel, ax=None, limits=(0, 1), bar=None):
    """A table of words (R, C) on squares coloured by values (R, C); rows, columns: their names; bar: a label for a colour bar."""
    values = np.asarray(values, dtype=np.float64)
    R, C = values.shape
    ax = panels(1, 2.6 + 0.82 * C, 1.2 + 0.42 * R)[0] if ax is None else ax
    heat_map(values, rows, columns, title=title, xlabel=xlabel, ylabel=ylabel, ax=ax, numbers=False, limits=limits, bar=bar)
    for (i, j), value in np.ndenumerate(values):
        dark = value - limits[0] > 0.6 * (limits[1] - limits[0])
        ax.text(j, i, words[i][j], ha="center", va="center", fontsize=8.5, color="white" if dark else "black")
    return ax


@styled
def wiring(steps, *, title, ax=None):
    """A stream that flows down from x to y.

    A name in `steps` is a box on it, a tuple of names a branch whose result is added to it.
    """
    ax = panels(1, 2.4, 4.2)[0] if ax is None else ax
    centred = {"ha": "center", "va": "center", "fontsize": 9}
    y = 0.0
    for step in steps:
        branch, start = isinstance(step, tuple), y - 0.5
        for name in step if branch else (step,):
            y -= 1
            ax.text(1.4 * branch, y, name, **centred, bbox={"boxstyle": "round,pad=0.4", "fc": PALE, "ec": GREY})
        if branch:
            y -= 0.8
            ax.plot([0, 1.4, 1.4, 0], [start, start, y, y], color=GREY, linewidth=1.2, zorder=1)
            ax.text(0, y, "+", **centred, bbox={"boxstyle": "circle,pad=0.2", "fc": "white", "ec": BLUE})
    ax.plot([0, 0], [-0.2, y - 1], color=BLUE, linewidth=3, zorder=1)
    ax.plot(0, y - 1, color=BLUE, marker="v", markersize=9)
    ax.text(0, 0, "x", **centred)
    ax.text(0, y - 1.4, "y", **centred)
    ax.set(title=title, xlim=(-0.8, 2.3))
    ax.margins(y=0.08)
    ax.axis("off")
    return ax


@styled
def choices(trace, name, *, title, count=16, ax=None):
    """A `sampling.trace` of logits (V,) in one glance: its `count` likeliest tokens.

    The model's probability is outlined, the final one filled.
    Hatched is a token that was cut, each filter has a hatching of its own; name(id) is what a token is called.
    """
    shown = trace.order[:count]
    ax = _prepared(ax, 4.6, 1.2 + 0.24 * len(shown), title, "probability", "token")
    outline = {"color": "none", "edgecolor": "black", "linewidth": 0.8, "zorder": 3}
    ax.barh(range(len(shown)), trace.raw[shown], height=0.8, label="the model says", **outline)
    ax.barh(range(len(shown)), trace.final[shown], color=SKY, height=0.8, label="drawn from")
    before = trace.scaled > 0  # what a temperature of 0 leaves nothing, no filter has cut
    for key, kept in trace.kept.items():
        colour, hatch = CUT_BY[key]
        cut = before & ~kept
        label = f"{np.count_nonzero(cut)} cut by {key.replace('_', '-')}"
        hatched = {"color": "white", "edgecolor": colour, "hatch": hatch, "linewidth": 0}
        ax.barh(range(len(shown)), np.where(cut, trace.raw, 0)[shown], height=0.8, label=label, **hatched)
        before = kept
    ax.set_yticks(range(len(shown)), map(name, shown.tolist()))
    ax.set_ylim(len(shown) - 0.5, -0.5)
    ax.legend(loc="lower right", frameon=True, edgecolor="none", framealpha=0.9)
    return ax


@styled
def coverage(trace, *, title, ax=None):
    """How much of a `sampling.trace` of logits (V,) its likeliest tokens hold together, by their number.

    A line stands where a filter cuts.
    """
    ax = _prepared(ax, 4.6, 4.0, title, "number of tokens, the likeliest first", "their probability together")
    number = np.arange(1, len(trace.order) + 1)
    ax.plot(number, trace.raw[trace.order].cumsum(), color=GREY, linestyle="--", label="the model says")
    held = np.sort(trace.scaled)[::-1].cumsum()
    ax.plot(number, held, color=BLUE, label=f"temperature {trace.settings.temperature:g}")
    for key, kept in trace.kept.items():
        colour, left = CUT_BY[key][0], np.count_nonzero(kept)
        ax.plot([left] * 2, [0, held[left - 1]], color=colour, linewidth=2.5)
        ax.annotate(f"{key.replace('_', '-')} leaves {left}", (left, 0), xytext=(4, 6), textcoords="offset points", rotation=90)
    ax.set_xscale("log")
    ax.set_ylim(0, 1.02)
    ax.legend()
    return ax
