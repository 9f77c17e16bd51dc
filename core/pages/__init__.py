"""What self-contained HTML pages are made of: markup, charts, sound and their frame, for the runner and for plugins."""
