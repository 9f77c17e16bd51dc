"""`accomp jam --device`: sound through a device of the server's machine; the page is the remote control."""
