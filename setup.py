"""Build entry point; all metadata is in pyproject.toml.

It exists beside pyproject.toml because a C extension is declared here (``cffi_modules``), which
has no declarative form.
"""

from setuptools import setup

setup()
