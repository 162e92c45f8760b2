"""Panels of ipywidgets for the notebooks: thin controls over pure functions."""
