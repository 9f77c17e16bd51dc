"""What a spec file may say, how it is read and checked, and how its parts are built."""
