"""The program ``lookwhen``, which ``python -P -m lookwhen`` is as well."""

from startup.command import begin


def run() -> None:
    """The command, in a process of its own."""
    begin("lookwhen")
    from lookwhen.command_line import main

    main(prog_name="lookwhen")


if __name__ == "__main__":
    run()
