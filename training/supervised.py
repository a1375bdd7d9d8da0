"""The old place of ``lookwhen train builtin``: :mod:`training.moving_things.supervised`."""

from training.moving_things.supervised.command import main

if __name__ == "__main__":
    main(prog_name="python -P -m training.supervised")
