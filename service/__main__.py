"""``python -m service`` was the command ``lookwhen``, and starts it for one more release."""

import runpy

from startup.command import begin, name_successor

if __name__ == "__main__":
    begin("lookwhen")
    name_successor("service")
    # Not imported: the service does not depend on the command that starts it.
    runpy.run_module("lookwhen", run_name="__main__", alter_sys=True)
