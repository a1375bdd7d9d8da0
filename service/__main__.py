"""``python -m service`` was the command ``lookwhen``, and starts it for one more release."""

import importlib

from startup.command import begin, name_successor

if __name__ == "__main__":
    begin("lookwhen")
    name_successor("service")
    # By its name, because the service does not depend on the command that starts it.
    importlib.import_module("lookwhen.command_line").main(prog_name="lookwhen")
