"""What a decode worker may not do, and how the kernel is told so."""
