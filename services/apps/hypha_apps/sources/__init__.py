"""What somebody installs, as they wrote it: markup, scripts, pages, files (contract 03 §1.3, §1.4)."""
