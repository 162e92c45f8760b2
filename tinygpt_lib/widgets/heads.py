"""The heads of a model on the reader's own text: where each token looks, in one head and in all of them."""

import base64
import html
import struct
import zlib

import ipywidgets
import numpy as np

from tinygpt_lib import functional as F
from tinygpt_lib import plots, validate
from tinygpt_lib.data import encode
from tinygpt_lib.generation import encoding_of
from tinygpt_lib.nn import evaluating
from tinygpt_lib.tokenizer import show_token

from .drawing import GREY, INK, MARK, paper, percent, svg, text

TEXT = "I pray thee, tell me, where is the king?\nThe king is dead."
WHITE, BLUE = np.array([255, 255, 255]), np.array([0, 77, 128])  # a weight of 0, and of 1
SAMPLES = ((0.01, INK), (0.1, INK), (0.5, "white"), (1, "white"))  # weights, and the ink to be read on their blue
SIDE = 300  # pixels, of the picture of all heads and of that of one


def attention_weights(model, ids):
    """The attention weights of every head on ids (T,): (layers, heads, T, T), a row for each query."""
    config, T = model.config, np.size(ids)
    ids = validate.token_ids("ids", ids, config.vocab_size)
    if ids.ndim != 1 or not 0 < T <= config.block_size:
        raise ValueError(f"ids must have shape (time,) with 1 to {config.block_size} tokens, got {ids.shape}")
    weights = np.empty((config.n_layer, config.n_head, T, T), dtype=model.wte.weight.dtype)
    with evaluating():
        x = model.wte(ids[None]) + model.wpe(np.arange(T))  # (1, T, C)
        for block, w in zip(model.h, weights, strict=True):
            qkv = block.attn.c_attn(block.ln_1(x)).data
            q, k, v = qkv.reshape(1, T, 3, config.n_head, -1).transpose(2, 0, 3, 1, 4)  # each (1, H, T, D)
            F.attend(q * q.shape[-1] ** -0.5, k, v, F.future_mask(T, T, w.dtype), weights=w[None])
            x = block(x)
    return weights


def strongest(tokens, row, count=3):
    """In words, where a row of weights is largest: "·king (62 %), ·the (20 %)"."""
    best = np.argsort(-row[: len(tokens)], kind="stable")[:count]
    return ", ".join(f"{tokens[j]} ({percent(row[j])})" for j in best)


def draw_text(tokens, weights, query):
    """The text as HTML: the query's token has a frame, the others are as blue as the weights that it gives them in (T, T)."""
    spans = []
    for j, (token, weight) in enumerate(zip(tokens, weights[query], strict=True)):
        future, level = j > query, _level(weight)
        ink = GREY if future else "white" if level > 0.55 else INK
        frame = f"outline:2px solid {MARK};font-weight:bold;" if j == query else ""
        style = f"background:{_colour(level)};color:{ink};{frame}padding:1px 2px;margin:1px;display:inline-block"
        title = "not yet said" if future else percent(weight)
        spans.append(f'<span style="{style}" title="{title}">{html.escape(token)}</span>{"<br>" * (token == "↵")}')
    return f'<div style="font-family:monospace;font-size:14px;line-height:1.7">{"".join(spans)}</div>'


def draw_heads(weights, layer, head):
    """All heads of (L, H, T, T) as an SVG of small pictures, the chosen one framed."""
    L, H = weights.shape[:2]
    step = SIDE / max(L, H)
    parts = [text(-6, (i + 0.5) * step + 4, f"layer {i}", "end") for i in range(L)]
    parts += [text(j * step + 2, -8, f"{'head ' * (H < 8)}{j}") for j in range(H)]
    for i in range(L):
        for j in range(H):
            parts.append(_image(weights[i, j], j * step, i * step, 0.9 * step, f"layer {i}, head {j}"))
    parts.append(_frame(head * step, layer * step, 0.9 * step, 0.9 * step))
    return _picture(parts, 60, 20, f"all heads, small; layer {layer}, head {head} has a frame")


def draw_head(tokens, weights, query):
    """One head's weights (T, T) as an SVG: a row for each token that looks, the query's framed, a column for each looked at."""
    T, step = len(tokens), SIDE / len(tokens)
    parts = [_image(weights, 0, 0, SIDE, "the chosen head"), _frame(-1, query * step - 1, SIDE + 2, step + 2)]
    parts.append(text(0, -8, "row: the token that looks; column: looked at"))
    for i in range(T) if T <= 24 else sorted({0, query, T - 1}):
        bold = ' font-weight="bold"' * (i == query)
        x, y, name = (i + 0.5) * step + 4, SIDE + 14, f"{'' if T <= 24 else i} {tokens[i][:10]}".strip()
        parts.append(text(-6, x, name, "end", bold))
        parts.append(text(x, y, name, "end", f'{bold} transform="rotate(-60 {x:.1f} {y})"'))
    return _picture(parts, 90, 90, f"the weights of {T} tokens; the row of {tokens[query]} has a frame")


def describe(tokens, weights, layer, head, query, note=""):
    """The text under one head of (L, H, T, T), and in words what the query's token looks at, as HTML."""
    weights = weights[layer, head]
    style = "background:{};color:{};padding:1px 6px"
    samples = (f'<span style="{style.format(_colour(_level(w)), ink)}">{percent(w)}</span>' for w, ink in SAMPLES)
    seen = strongest(tokens[: query + 1], weights[query])
    lines = [
        f"Layer {layer}, head {head}: <b>{html.escape(tokens[query])}</b> looks at {html.escape(seen)}.",
        f"Weight: {' '.join(samples)}. Grey: not yet said.",
        html.escape(note),
    ]
    return "".join(f"<div>{line}</div>" for line in lines if line) + draw_text(tokens, weights, query)


@plots.styled
def draw_still(tokens, weights, layer, head, query):
    """What the viewer shows, as two Axes for a page that is read without a kernel: all heads, and the chosen one."""
    L, H, T, _ = weights.shape
    sheet = np.full((L, T + 1, H, T + 1), np.nan)  # a white line after each head
    sheet[:, :T, :, :T] = np.sqrt(weights).transpose(0, 2, 1, 3)
    axes = plots.panels(2, width=6.2, height=5.4)
    title = "All heads (blue: the root of the weight)"
    ax = plots.heat_map(
        sheet.reshape(L * (T + 1), -1), title=title, xlabel="head", ylabel="layer", ax=axes[0], limits=(0, 1), numbers=False
    )
    ax.set_xticks(np.arange(H) * (T + 1) + T / 2, range(H))
    ax.set_yticks(np.arange(L) * (T + 1) + T / 2, range(L))
    corners, up = np.array([0, 1, 1, 0, 0]), np.array([0, 0, 1, 1, 0])
    ax.plot(head * (T + 1) - 1 + corners * (T + 1), layer * (T + 1) - 1 + up * (T + 1), color=MARK)
    chosen = np.where(np.tri(T, dtype=bool), weights[layer, head], np.nan)
    title = f"Layer {layer}, head {head}: {tokens[query]} looks at {strongest(tokens[: query + 1], chosen[query], 2)}"
    ax = plots.heat_map(
        chosen, tokens, tokens, title=title, xlabel="key", ylabel="query", ax=axes[1], limits=(0, 1), numbers=False
    )
    ax.plot(corners * T - 0.5, query - 0.5 + up, color=MARK, clip_on=False)
    return axes


def _level(weight):
    """How blue a weight is, 0 to 1: its root, so that a weight of 1 % can still be seen."""
    return float(np.sqrt(weight))


def _colour(level):
    return "#" + "".join(f"{round(c):02x}" for c in WHITE + level * (BLUE - WHITE))


def _frame(x, y, width, height):
    box = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {box} fill="none" stroke="{MARK}" stroke-width="2"/>'


def _picture(parts, left, below, alt):
    """The parts as an SVG with room for labels: `left` and `below` pixels of it, and 30 above."""
    return svg([f'<g transform="translate({left} 30)">', *parts, "</g>"], left + SIDE + 10, SIDE + below + 30, alt, font_size=11)


def _image(weights, x, y, side, title):
    box = f'x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="{side:.1f}"'
    image = f'<image {box} href="{_png(np.sqrt(weights))}" preserveAspectRatio="none" style="image-rendering:pixelated"/>'
    return f'<g><title>{html.escape(title)}</title>{image}<rect {box} fill="none" stroke="{GREY}" stroke-width="0.5"/></g>'


def _png(levels):
    """Levels (R, C) from 0, white, to 1, blue, as the address of a PNG: tens of thousands of SVG's squares would be slow."""
    R, C = levels.shape
    rows = np.zeros((R, C + 1), dtype=np.uint8)  # each begins with the number of its filter: none
    rows[:, 1:] = np.rint(255 * levels)
    palette = np.rint(WHITE + np.linspace(0, 1, 256)[:, None] * (BLUE - WHITE)).astype(np.uint8)
    parts = [(b"IHDR", struct.pack(">2I5B", C, R, 8, 3, 0, 0, 0)), (b"PLTE", palette.tobytes())]
    parts += [(b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts)
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()


class HeadViewer(ipywidgets.VBox):
    """A panel: type a text, choose layer, head and the token that looks, and see what it looks at."""

    def __init__(self, model, encoding=None, text=TEXT, layer=0, head=0):
        self.model, self.encoding = model, encoding_of(model, encoding)
        wide, row = {"width": "660px", "max_width": "95%"}, {"flex_flow": "row wrap"}
        self.text = ipywidgets.Textarea(value=text, description="text", rows=2, layout=wide)
        self.layer = ipywidgets.IntSlider(value=layer, min=0, max=model.config.n_layer - 1, description="layer")
        self.head = ipywidgets.IntSlider(value=head, min=0, max=model.config.n_head - 1, description="head")
        self.token = ipywidgets.SelectionSlider(options=[("", 0)], description="token", layout=wide)
        self.words, self.all_heads, self.one_head = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        choice, pictures = ipywidgets.HBox([self.layer, self.head]), ipywidgets.Box([self.all_heads, self.one_head], layout=row)
        super().__init__([self.text, choice, self.token, self.words, pictures])
        self.text.observe(self._read, "value")
        self.layer.observe(self._draw, "value")
        self.head.observe(self._draw, "value")
        self.token.observe(self._look, "value")
        self._read()

    def __repr__(self):
        return f"HeadViewer: {self.model.config.n_layer} layers of {self.model.config.n_head} heads"

    def _read(self, _=None):
        """Take up a new text; its last token looks."""
        ids, room = encode(self.encoding, self.text.value), self.model.config.block_size
        shown, self.note = ids[-room:], ""
        for control in (self.layer, self.head, self.token):
            control.disabled = not len(ids)
        if not len(ids):
            self.words.value = paper("The text is empty: type at least one character.")
            self.all_heads.value = self.one_head.value = ""
            return
        if len(ids) > room:
            self.note = f"The text has {len(ids)} tokens and the model reads {room} at once: these are the last {room}."
        elif "\ufffd" in "".join(self.encoding.decode([i]) for i in shown):
            self.note = "Tokens such as <f0> are single bytes: the model has no token for the whole character."
        self.tokens, self.weights = [show_token(self.encoding, i) for i in shown], attention_weights(self.model, shown)
        self.token.unobserve(self._look, "value")  # new options choose the first token, for a moment
        self.token.options = [(f"{i} {token}", i) for i, token in enumerate(self.tokens)]
        self.token.value = len(self.tokens) - 1
        self.token.observe(self._look, "value")
        self._draw()

    def _draw(self, _=None):
        self.all_heads.value = paper(draw_heads(self.weights, self.layer.value, self.head.value))
        self._look()

    def _look(self, _=None):
        layer, head, query = self.layer.value, self.head.value, self.token.value
        self.words.value = paper(describe(self.tokens, self.weights, layer, head, query, self.note))
        self.one_head.value = paper(draw_head(self.tokens, self.weights[layer, head], query))
