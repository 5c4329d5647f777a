"""Explain a SCEP message: every layer that can be read, and what is unusual about it.

This is the one place that returns data which nobody has verified; each report says what was
checked and what was not. Never decide anything by it.
"""

from __future__ import annotations

from pyscep.inspect.reading import inspect
from pyscep.inspect.render import render
from pyscep.inspect.report import Layer, Remark, Report

__all__ = ["Layer", "Remark", "Report", "inspect", "render"]
