"""A text's tokens in boxes with their ids: as a cell's output, and as a panel to type into."""

import html

import ipywidgets as widgets

from tinygpt_lib.data import encode
from tinygpt_lib.plots import COLOURS
from tinygpt_lib.tokenizer import show_token

DRAWN = 1000  # boxes of one text: with more of them, typing would lag behind
LONGEST = 100_000  # characters

# All within the boxes, since a notebook that isn't trusted yet loses its style sheets; grey and half transparent, for light
# and dark.
BOX = (
    "display:inline-block;margin:2px 1px;padding:0 4px;border:{};border-radius:4px;background-color:{}33;"
    "text-align:center;line-height:1.5"
)
ID = "display:block;position:static;font-size:75%;line-height:1.3"
LABEL = {"description_width": "5em"}


def token_boxes(encoding, text):
    """HTML of one box a token: its text (spaces and newlines visible, half characters in hexadecimal), its id below.

    A colour belongs to an id, a border to every box, a double one to a special token; a newline ends the row.
    """
    ids = encode(encoding, text).tolist()
    special = {encoding.encode_single_token(name) for name in encoding.special_tokens_set}
    boxes = []
    for i in ids[:DRAWN]:
        style = BOX.format("3px double #808080" if i in special else "1px solid #808080", COLOURS[i % len(COLOURS)])
        end = "<br>" if encoding.decode_single_token_bytes(i).endswith(b"\n") else "\n"
        boxes.append(f'<span style="{style}">{html.escape(show_token(encoding, i))}<sub style="{ID}">{i}</sub></span>{end}')
    more = f"<p>{len(ids) - DRAWN:,} more tokens are counted and not drawn.</p>" if len(ids) > DRAWN else ""
    return f'<div dir="ltr" style="font-family:monospace">{"".join(boxes)}</div>{more}'


def count_sentence(encoding, text):
    """How many characters, bytes and tokens a text has, in words."""
    ids = encode(encoding, text).tolist()
    numbers = {"character": len(text), "byte": len(encoding.decode_bytes(ids)), "token": len(ids)}
    counted = ", ".join(f"{n:,} {what}{'s' * (n != 1)}" for what, n in numbers.items())
    return f"{counted} ({len(text) / len(ids):.2f} characters a token)" if ids else counted


def panel(encoding, text, name=""):
    """HTML of the counts, with the encoding's name before them, and the boxes; or of a sentence on a text that has none."""
    if not text:
        return "<p>There is nothing to cut yet: type a text.</p>"
    if len(text) > LONGEST:
        return f"<p>This text has {len(text):,} characters: up to {LONGEST:,} are read here.</p>"
    return f"<p>{html.escape(name)}{': ' * bool(name)}{count_sentence(encoding, text)}</p>{token_boxes(encoding, text)}"


class Tokens:
    """The tokens of a text as a cell's output."""

    def __init__(self, encoding, text):
        self.encoding, self.text = encoding, text

    def __repr__(self):
        return "|".join(show_token(self.encoding, i) for i in encode(self.encoding, self.text))

    def _repr_html_(self):
        return panel(self.encoding, self.text)


class TokenPlayground(widgets.VBox):
    """A box to type into and a choice among encodings {name: encoding}, above the tokens."""

    def __init__(self, encodings, text=""):
        if not isinstance(encodings, dict) or not encodings or not all(hasattr(e, "decode_bytes") for e in encodings.values()):
            raise ValueError(f"encodings must be a dict {{name: tiktoken.Encoding}} with at least one, got {encodings!r}")
        self.encodings = encodings
        # Buttons, since JupyterLab takes the keys away from a Dropdown.
        self.chooser = widgets.ToggleButtons(
            options=list(encodings), description="encoding", layout={"display": "flex"}, style=LABEL
        )
        self.text = widgets.Textarea(value=text, description="text", rows=4, layout={"width": "95%"}, style=LABEL)
        self.shown = widgets.HTML()
        for control in (self.chooser, self.text):
            control.observe(self._draw, names="value")
        super().__init__([self.chooser, self.text, self.shown])
        self._draw()

    def _draw(self, change=None):
        self.shown.value = panel(self.encodings[self.chooser.value], self.text.value, self.chooser.value)

    def __repr__(self):
        return "TokenPlayground: run this cell, type a text and see its tokens"
