"""Build entry point; all metadata is in pyproject.toml.

It exists beside pyproject.toml because the C extension is declared here (``cffi_modules``), which
has no declarative form. ``PYSCEP_EXTENSION`` decides about it: ``auto`` (build it where a compiler
works), ``require`` (fail without), ``skip`` (a pure wheel).
"""

import os
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel

mode = os.environ.get("PYSCEP_EXTENSION", "auto")
if mode not in ("auto", "require", "skip"):
    raise SystemExit(f"PYSCEP_EXTENSION={mode!r}: it is auto, require or skip")


class WheelOfWhatWasBuilt(bdist_wheel):
    """Compiles first: a wheel without the extension must say that it fits every machine.

    setuptools names a wheel for what is declared, so one whose optional extension failed would
    be kept for this platform alone, and installers elsewhere would never be offered it.
    """

    def run(self) -> None:
        self.run_command("build_ext")
        built = self.get_finalized_command("build_ext")
        missing = [
            extension.name
            for extension in self.distribution.ext_modules
            if not Path(built.get_ext_fullpath(extension.name)).exists()
        ]
        if missing:
            self.warn(f"{', '.join(missing)} was not compiled: Python code takes its place")
            self.distribution.ext_modules = []
            self.root_is_pure = True
        super().run()


if mode == "skip":
    setup()
else:
    setup(
        cffi_modules=["csrc/build_ffi.py:ffi"],
        cmdclass={"bdist_wheel": WheelOfWhatWasBuilt},
        options={"bdist_wheel": {"py_limited_api": "cp311"}},
    )
