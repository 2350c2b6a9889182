"""Comparisons in every format: `tables` for the terminal, and text for pages and programs."""

from fatbench.report.render.export import csv_text as csv
from fatbench.report.render.export import json_text as json
from fatbench.report.render.export import markdown
from fatbench.report.render.terminal import tables

__all__ = ["csv", "json", "markdown", "tables"]
