"""``python -m service`` is the command ``lookwhen``."""

from startup.command import begin


def run() -> None:
    """The command, in a process of its own."""
    begin("lookwhen")
    from service.cli import main

    main(prog_name="lookwhen")


if __name__ == "__main__":
    run()
