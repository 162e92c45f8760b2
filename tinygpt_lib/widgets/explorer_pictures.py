"""The sampling explorer's pictures: pure functions, a trace in, SVG or HTML text out.

Grey outlines are what the model says, blue what is drawn from; what a filter cuts is hatched in its own colour and way.
"""

import html
import math

import numpy as np

from tinygpt_lib.plots import BLUE, CUT_BY, SKY

from .drawing import GREY, INK, MARK, MARKED, PALE, blue, legend, line, percent, readable, rect, svg, text, written

FILTERS = {name: (name.replace("_", "-"), colour) for name, (colour, _) in CUT_BY.items()}
LETTERS = {name: name[-1] if name.startswith("top") else name[0] for name in CUT_BY}  # k, p, m, t
SHOWN = 200  # tokens of a prompt, its last
ROWS, ROW, TOP = 20, 18, 46  # bars at most, a bar's height in pixels, and where the first begins
LEFT, WIDTH, RIGHT = 104, 270, 130  # of the bars: the tokens' names, the bars, what is written beside them
EDGE, CURVE = 50, 310  # room for the curve's percentages, and its width
HEIGHT = TOP + ROWS * ROW + 24
DASHED = ' stroke-dasharray="5 3"'


def draw_bars(trace, name, token=None):
    """The likeliest tokens as bars, and also `token`, the one that stands there. name(id) is what a token is called."""
    ids = trace.order[:ROWS].tolist()
    if token is not None and token not in ids:
        ids[-1] = token
    most = next(m for m in (0.05, 0.1, 0.2, 0.5, 1) if max(trace.raw.max(), trace.final.max()) <= m + 1e-9)
    parts = _legend()
    for share in np.linspace(0, most, 6 if most != 0.2 else 5):
        x = LEFT + share / most * WIDTH
        parts += [line(x, TOP - 4, x, HEIGHT - 22, PALE), text(x, TOP - 9, f"{100 * share:.3g} %", "middle", f' fill="{GREY}"')]
    for row, i in enumerate(ids):
        parts += _bar(trace, i, TOP + row * ROW, WIDTH / most, name(i), i == token)
    beyond = len(trace.raw) - len(ids)
    if beyond > 0:
        rest = f"{beyond:,} others: {percent(_rest(trace.raw, ids))} → {percent(_rest(trace.final, ids))}"
        parts.append(text(LEFT, HEIGHT - 5, rest, more=f' fill="{GREY}"'))
    return svg(parts, LEFT + WIDTH + RIGHT, HEIGHT, describe(trace, name, token))


def _rest(probs, ids):
    return np.delete(probs, ids).sum()


def _legend():
    """What outline, filling and hatching mean, over the bars."""
    boxes = [rect(0, 3, 26, 13, "none", INK), rect(142, 3, 26, 13, SKY, "none")]
    boxes += [_hatch(270, 3, 26, 13, "top_k", GREY), rect(270, 3, 26, 13, "none", GREY)]
    return [*boxes, text(32, 14, "the model says"), text(174, 14, "drawn from"), text(302, 14, "cut")]


def _bar(trace, i, y, scale, name, marked):
    raw, final, cut = trace.raw[i], trace.final[i], cut_by(trace, i)
    height = ROW - 5
    bold = ' font-weight="bold"' if marked else ""
    short = name if len(name) <= 13 else f"{name[:12]}…"  # <|endoftext|> has 13
    parts = [text(LEFT - 8, y + 13, f"{'▸' * marked}{short}", "end", bold)]
    if cut:
        label, colour = FILTERS[cut]
        parts.append(_hatch(LEFT, y, max(raw * scale, 3), height, cut, colour))
        said = f"{percent(raw)} → cut by {label}"
    else:
        parts.append(rect(LEFT, y, final * scale, height, SKY, "none"))
        said = f"{percent(raw)} → {percent(final)}"
    parts.append(rect(LEFT, y, raw * scale, height, "none", FILTERS[cut][1] if cut else INK))
    return [*parts, text(LEFT + max(raw, final) * scale + 6, y + 13, said, more=bold)]


def cut_by(trace, i):
    """The name of the filter that cut token i, or None, as where a temperature of 0 had left it nothing before."""
    return next((name for name, kept in trace.kept.items() if not kept[i] and trace.scaled[i]), None)


def draw_curve(trace):
    """How much of the mass the likeliest tokens hold together, over their rank, and where each filter cuts."""
    V = len(trace.raw)
    ranks = np.unique(np.geomspace(1, V, 60).round().astype(int))
    parts = [text(0, 14, "likeliest tokens together:"), line(172, 10, 200, 10, GREY, 2, DASHED), text(205, 14, "the model")]
    parts += [line(280, 10, 308, 10, BLUE, 2), text(313, 14, f"T = {trace.settings.temperature:g}")]
    for mass in (0, 0.25, 0.5, 0.75, 1):
        parts += [
            line(_x(1, V), _y(mass), _x(V, V), _y(mass), PALE),
            text(_x(1, V) - 6, _y(mass) + 4, f"{100 * mass:.0f} %", "end", f' fill="{GREY}"'),
        ]
    for rank in (r for r in (1, 10, 100, 1000, 10_000) if r <= V):
        parts.append(text(_x(rank, V), _y(0) + 18, f"{rank:,}", "middle", f' fill="{GREY}"'))
    parts.append(text(EDGE + CURVE / 2, _y(0) + 38, "number of tokens, the likeliest first", "middle", f' fill="{GREY}"'))
    for probs, colour, dashes in ((trace.raw, GREY, DASHED), (trace.scaled, BLUE, "")):
        mass = np.sort(probs)[::-1].cumsum()
        points = " ".join(f"{_x(r, V):.0f},{_y(mass[r - 1]):.0f}" for r in ranks.tolist())
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
    return svg([*parts, *_cuts(trace, V)], EDGE + CURVE + 20, HEIGHT, describe_curve(trace))


def _x(rank, V):
    return EDGE + CURVE * math.log(rank) / math.log(max(V, 2))


def _y(mass):
    return TOP + (HEIGHT - TOP - 44) * (1 - mass)


def _cuts(trace, V):
    """For each filter a line at the rank where it cuts; for top-p also the mass that was to be reached."""
    before, lines, legend, free = np.ones(V, dtype=bool), [], [], math.inf
    for row, (name, kept) in enumerate(trace.kept.items()):
        (label, colour), value, count = FILTERS[name], getattr(trace.settings, name), int(kept.sum())
        x, y = (_x(count, V) + _x(min(count + 1, V), V)) / 2, _y(0) - 10 - 19 * (len(trace.kept) - 1 - row)
        letter = min(max(x, EDGE + 30), free)  # clear of the axis
        lines += [line(x, _y(1), x, _y(0), colour, 3), text(letter, _y(1) - 5, LETTERS[name], "middle", ' font-weight="bold"')]
        free = letter - 11  # the next line stands at the same place or to the left: its letter beside this one
        if name == "top_p":
            wanted = value * trace.scaled[before].sum()
            lines.append(line(_x(1, V), _y(wanted), _x(V, V), _y(wanted), colour, 2, DASHED))
        legend += [
            rect(_x(V, V) - 170, y - 14, 170, 19, "white", "none"),
            line(_x(V, V) - 166, y - 4, _x(V, V) - 146, y - 4, colour, 4),
        ]
        legend.append(text(_x(V, V) - 140, y, f"{label} {value:g} leaves {count:,}"))
        before = kept
    return [*lines, *legend]


def figures(trace, name):
    """The figures of a trace as HTML: how uncertain it is, what is left, and the likeliest token before and after."""
    top = int(trace.order[0])
    shown = {
        "entropy": f"{trace.entropy:.2f} bits",
        "effective choices": f"{trace.effective_choices:.1f}",
        "kept tokens": f"{(trace.final > 0).sum():,} of {len(trace.final):,}",
        "kept mass": percent(trace.kept_mass),
        f"likeliest: {html.escape(name(top))}": f"{percent(trace.raw[top])} → {percent(trace.final[top])}",
    }
    cell = (
        '<div style="min-width:7em"><div style="color:{grey}">{label}</div>'
        '<div style="font-size:19px;line-height:1.4">{value}</div></div>'
    )
    cells = "".join(cell.format(grey=GREY, label=label, value=value) for label, value in shown.items())
    return f'<div style="display:flex;flex-wrap:wrap;gap:2px 26px;font-size:13px;font-variant-numeric:tabular-nums">{cells}</div>'


def draw_text(state, name):
    """Prompt and text as HTML: the likelier the model found a token, the bluer; a frame around the one that is looked at."""
    before = "".join(map(name, state.prompt[-SHOWN:].tolist()))
    spans = [f'<span style="color:{GREY}">{"…" * (len(state.prompt) > SHOWN)}{readable(before)}</span>']
    for place, token in enumerate(state.tokens):
        p, mark = token.probability, MARKED if place == state.picked else ";font-style:italic" if token.settings is None else ""
        title = f"{place}: {percent(p)}{' (chosen by hand)' * (token.settings is None)}"
        spans.append(f'<span style="background:{blue(p)}{mark}" title="{title}">{readable(name(token.id))}</span>')
    if state.picked is None and not state.is_over:
        spans.append(f'<span style="color:{MARK};font-weight:bold" title="{len(state.tokens)}: the next token">▁</span>')
    return written(spans) + legend("Italic: chosen by hand.")


def describe(trace, name, token=None):
    """The bars in a sentence."""
    best = ", ".join(f"{name(int(i))} {percent(trace.raw[i])} to {percent(trace.final[i])}" for i in trace.order[:3])
    cuts = "; ".join(f"{FILTERS[filter][0]} leaves {kept.sum():,}" for filter, kept in trace.kept.items())
    stands = ""
    if token is not None:
        stands = f" Here stands {name(token)}, {percent(trace.raw[token])} to {percent(trace.final[token])}."
    cuts = f"{cuts}." if cuts else "Nothing is cut."
    return f"The likeliest next tokens, before and after the settings: {best}. {cuts}{stands}"


def describe_curve(trace):
    """The curve in a sentence."""
    mass = np.sort(trace.scaled)[::-1].cumsum()
    held = ", ".join(f"{n:,}: {percent(mass[n - 1])}" for n in (1, 10, 100, 1000) if n <= len(mass))
    return f"Mass of the likeliest tokens together at this temperature: {held}."


def _hatch(x, y, width, height, name, colour):
    """Strokes within a box: rising for top-k, falling for top-p, upright for min-p, crossed for typical-p."""
    slopes = {"top_k": (1,), "top_p": (-1,), "min_p": (0,), "typical_p": (1, -1)}[name]
    strokes = []
    for slope in slopes:
        for start in np.arange(-height * abs(slope) + 3, width, 6):
            a, b = max(start, 0), min(start + height, width) if slope else start
            low, high = (y + height - (a - start), y + height - (b - start)) if slope else (y, y + height)
            low, high = (2 * y + height - low, 2 * y + height - high) if slope < 0 else (low, high)
            strokes.append(f"M{x + a:.0f} {low:.0f}L{x + b:.0f} {high:.0f}")
    return f'<path d="{"".join(strokes)}" stroke="{colour}" stroke-width="1.5"/>'
