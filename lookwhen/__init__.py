"""The command ``lookwhen``. It imports the other packages, each when a command needs it."""
