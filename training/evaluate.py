"""The old place of ``lookwhen train evaluate``, which is :mod:`training.evaluation.evaluate`."""

from training.evaluation.evaluate import main

if __name__ == "__main__":
    main(prog_name="python -P -m training.evaluate")
