"""``python -m pyscep`` is the ``pyscep`` command."""

from pyscep.cli import main

if __name__ == "__main__":
    main()
