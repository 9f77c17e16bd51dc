"""What a server plays: sessions in one batch, what they hear, what they sound like."""
