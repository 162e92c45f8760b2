"""Panels of ipywidgets for the notebooks: thin controls over pure functions."""

from .controls import PRESETS, SettingsControls
from .explorer import SamplingExplorer
from .heads import HeadViewer, attention_weights, draw_still
from .playground import TokenPlayground, Tokens
