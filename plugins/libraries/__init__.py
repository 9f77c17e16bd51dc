"""Import helpers for third-party libraries; contains no plugins."""
