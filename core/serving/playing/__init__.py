"""Playing of a server: sessions in one batch, their input and output."""
