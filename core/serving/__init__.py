"""The server behind `accomp jam` and `accomp serve`."""
