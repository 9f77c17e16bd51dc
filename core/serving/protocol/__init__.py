"""What goes over a socket: frames of sound, and messages."""
