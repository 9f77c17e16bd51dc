"""How takes are judged: clips, anchors, metrics and their intervals."""
