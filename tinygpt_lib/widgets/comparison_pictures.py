"""What the panels of A and B and of the map show: pure functions, numbers in, HTML or SVG text out."""

import html

import numpy as np

from tinygpt_lib.tokenizer import show_token

from .comparison import MEASURES, estimate
from .drawing import GREY, INK, MARKED, PALE, blue, percent, readable, rect, svg, text, written

CELL, ROW, LEFT, TOP = 66, 34, 92, 16  # of the map, in pixels: a cell's width and height, and where the first begins


# ---- A and B


def words_on_parting(comparison, encoding):
    """Where two texts part and why, or that they don't, as HTML."""
    n = comparison.parting
    if n is None:
        return f"<b>A and B don't part</b>: each of the {len(comparison.a)} random numbers falls on the same token in both."
    a, b = comparison.a[n], comparison.b[n]
    falls = []
    for here, step, there, other in (("A", a, "B", b), ("B", b, "A", a)):
        name = html.escape(show_token(encoding, step.token))
        chance, elsewhere = step.trace.final[step.token], other.trace.final[step.token]
        falls.append(f"in {here} on <b>{name}</b> ({percent(chance)}; in {there} {percent(elsewhere) if elsewhere else 'cut'})")
    common = f"after {n} equal token{'s' * (n > 1)}" if n else "at once"
    return f"<b>A and B part {common}</b>, at ◆: there the random number {comparison.luck[n]:.3f} falls {' and '.join(falls)}."


def draw_text(begin, steps, encoding, parting):
    """One text after the words it begins with, as HTML, in the explorer's colours; a sign and a frame at `parting`."""
    spans = [f'<span style="color:{GREY}">{readable(begin)}</span>']
    for n, step in enumerate(steps):
        sign, mark = ("◆", MARKED) if n == parting else ("", "")
        name, p = show_token(encoding, step.token), step.trace.raw[step.token]
        spans.append(f'<span style="background:{blue(p)}{mark}" title="{n}: {percent(p)}">{sign}{readable(name)}</span>')
    return written(spans)


def last_words(encoding, ids, count=40):
    """The end of a text as one can print it in a line: "…lord,↵I am"."""
    shown = "".join(show_token(encoding, i) for i in ids[-count:]).replace("·", " ")
    return shown if len(shown) <= count and len(ids) <= count else f"…{shown[-count:]}"


def draw_table(a, b, n_tokens):
    """The measures of A, of B and of their difference as an HTML table. a, b: what `of_each` says of texts with the same luck.

    The difference is taken from text to text, so that what luck does to both alike falls out.
    """
    rows = [_row(['th scope="col"'] * 4, ["measure", "A", "B", "B − A"])]
    for name, meaning in MEASURES.items():
        difference = estimate(b[name] - a[name])
        named = f'<b>{name}</b><br><span style="color:{GREY}">{meaning}</span>'
        contents = [
            named,
            _interval(estimate(a[name])),
            _interval(estimate(b[name])),
            f"{_interval(difference, '+')}<br>{_verdict(difference)}",
        ]
        rows.append(_row(['th scope="row"', "td", "td", "td"], contents))
    ended = " and ".join(f"{(lengths < n_tokens).sum()} of {name}" for name, lengths in (("A", a["length"]), ("B", b["length"])))
    caption = (
        f"Means of {len(a['length'])} texts each; in brackets where the true mean lies in about 95 cases of 100 "
        f"(a bootstrap over the texts). A text has {n_tokens} tokens at most; end-of-text came before that in {ended}."
    )
    style = f"border-collapse:collapse;font-size:13px;color:{INK};font-variant-numeric:tabular-nums"
    return f'<table style="{style}">{"".join(rows)}</table><div style="color:{GREY}">{caption}</div>'


def _row(tags, contents):
    style = "padding:2px 18px 2px 0;text-align:left;vertical-align:top;font-weight:normal"
    cells = (f'<{tag} style="{style}">{content}</{tag[:2]}>' for tag, content in zip(tags, contents))
    return f'<tr style="background:white;border-bottom:1px solid {PALE}">{"".join(cells)}</tr>'


def _interval(found, sign=""):
    """An Estimate as "0.93 (0.91 to 0.95)"."""
    if np.isnan(found.mean):
        return "the texts are too short"
    mean, low, high = (f"{value:{sign}.{_digits(*found)}f}".replace("-", "−") for value in _rounded(found))
    return f"{mean} ({low} to {high})"


def _rounded(found):
    return [round(value, _digits(*found)) + 0.0 for value in found]  # + 0.0 makes -0.0 a plain 0


def _digits(*values):
    return 1 if max(map(abs, values)) >= 10 else 2


def _number(value):
    return f"{value:.{_digits(value)}f}"


def _verdict(difference):
    _, low, high = _rounded(difference)
    if low > 0:
        return "▲ more in B"
    if high < 0:
        return "▼ less in B"
    return "no difference" if low == high == 0 else "may be chance"


# ---- the map


def draw_map(cells, name, temperatures, top_ps):
    """One of MEASURES as an SVG heat map, the hottest row on top.

    Cells are as `measure_map` yields them; those still to come are white.
    """
    known = [cell[name].mean for cell in cells]
    low, high = (np.nanmin(known), np.nanmax(known)) if np.isfinite(known).any() else (0, 0)
    parts = []
    for n in range(len(temperatures) * len(top_ps)):
        row, column = divmod(n, len(top_ps))
        x, y = LEFT + column * CELL, TOP + (len(temperatures) - 1 - row) * ROW
        found = cells[n][name] if n < len(cells) else None
        level = (found.mean - low) / (high - low) if found and high > low else 0
        parts.append(_cell(x, y, found, level, f"temperature {temperatures[row]:g}, top-p {top_ps[column]:g}"))
    bottom = TOP + len(temperatures) * ROW
    parts += [text(LEFT - 8, bottom - (row + 0.5) * ROW + 5, f"{T:g}", "end") for row, T in enumerate(temperatures)]
    parts += [text(LEFT + (column + 0.5) * CELL, bottom + 18, f"{p:g}", "middle") for column, p in enumerate(top_ps)]
    middle = (TOP + bottom) / 2
    parts.append(text(LEFT + len(top_ps) * CELL / 2, bottom + 40, "top-p (1 is off)", "middle"))
    parts.append(text(34, middle, "temperature", "middle", f' transform="rotate(-90 34 {middle:.0f})"'))
    return svg(parts, LEFT + len(top_ps) * CELL + 10, bottom + 50, describe_map(cells, name, temperatures, top_ps))


def _cell(x, y, found, level, where):
    """A square with its number in it, and where it lies and how sure it is as its title."""
    if found is None:
        return f'<g><title>{where}: to come</title>{rect(x, y, CELL - 2, ROW - 2, "white", PALE)}</g>'
    number, level = ("–", 0) if np.isnan(found.mean) else (_number(found.mean), level)
    box = rect(x, y, CELL - 2, ROW - 2, blue(level), PALE)
    return f'<g><title>{where}: {_interval(found)}</title>{box}{text(x + CELL / 2 - 1, y + ROW / 2 + 4, number, "middle")}</g>'


def describe_map(cells, name, temperatures, top_ps):
    """The map in a sentence: what it shows, where it is lowest and highest, and how sure its numbers are."""
    places = [f"temperature {T:g} and top-p {p:g}" for T in temperatures for p in top_ps]
    means, lows, highs = np.array([cell[name] for cell in cells]).reshape(-1, 3).T
    begin = f"{name} ({MEASURES[name]}), {len(cells)} of {len(places)} cells"
    if not np.isfinite(means).any():
        return f"{begin}."
    least, most = np.nanargmin(means), np.nanargmax(means)
    reach = np.nanmean(highs - lows) / 2
    return (
        f"{begin}: lowest at {places[least]}, {_number(means[least])}; highest at {places[most]}, {_number(means[most])}. "
        f"The 95 % intervals reach {_number(reach)} to either side, on average."
    )
