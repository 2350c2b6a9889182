"""A comparison in every format: `tables` for the terminal, and text for pages and programs."""

from fatbench.report.export import csv_text as csv
from fatbench.report.export import json_text as json
from fatbench.report.export import markdown
from fatbench.report.table import tables

__all__ = ["csv", "json", "markdown", "tables"]
