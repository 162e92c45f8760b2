"""Panels of ipywidgets for the notebooks: thin controls over pure functions."""

from .heads import HeadViewer, attention_weights, draw_still
from .playground import TokenPlayground, Tokens
