"""Pieces of SVG and HTML that the panels' pictures are made of, and how numbers and tokens are written in them."""

import html

INK, GREY, PALE = "#1a1a1a", "#6b6b6b", "#d9d9d9"
MARK = "#d55e00"
MARKED = f";outline:2px solid {MARK};font-weight:bold"


def paper(content):
    """White behind dark letters, in a light theme and in a dark one."""
    return f'<div style="background:white;color:{INK};padding:6px;line-height:1.6">{content}</div>'


def rect(x, y, width, height, fill, stroke):
    return f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.1f}" height="{height}" fill="{fill}" stroke="{stroke}"/>'


def line(x1, y1, x2, y2, colour, width=1, more=""):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"{more}/>'


def text(x, y, text, anchor="start", more=""):
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}"{more}>{html.escape(text, quote=False)}</text>'


def svg(parts, width, height, alt, font_size=13):
    size = f'viewBox="0 0 {width} {height}" style="width:{width}px;max-width:100%;height:auto"'
    letters = f'font-family="sans-serif" font-size="{font_size}" fill="{INK}"'
    start = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{html.escape(alt)}" {letters}>'
    return f"{start}{''.join(parts)}</svg>"


def legend(more):
    """What blue means, as HTML, and a sentence more."""
    samples = " ".join(
        f'<span style="background:{blue(p)};color:{INK};padding:1px 6px">{percent(p)}</span>' for p in (0.01, 0.25, 0.5, 1)
    )
    return f'<div style="font-size:12px;color:{GREY}">Blue: how likely the model finds the token, {samples}. {more}</div>'


def written(spans):
    """A text of tokens, each a span."""
    style = "font-family:monospace;font-size:15px;line-height:1.7;white-space:pre-wrap;overflow-wrap:anywhere"
    return f'<div style="{style}">{"".join(spans)}</div>'


def blue(p):
    """White at 0, and at 1 a blue that black can still be read on."""
    return f"rgb({255 - 205 * p:.0f},{255 - 113 * p:.0f},{255 - 62 * p:.0f})"


def readable(token):
    return html.escape(token.replace("·", " ")).replace("↵", "↵\n")


def percent(p):
    """A probability as one reads it: "23 %", "4.1 %", "0.02 %"; what is nearly none or all isn't rounded to it: "≈0 %"."""
    p = 100 * float(p)
    p = 100 if p > 100 - 1e-9 else p  # a sum that was rounded
    if 0 < p < 0.005 or 99.95 <= p < 100:
        return f"≈{p:.0f} %"
    digits = 0 if p in (0, 100) or 10 <= p < 99.5 else 2 if p < 1 else 1
    return f"{p:.{digits}f} %"
