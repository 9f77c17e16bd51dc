"""Playing models without a clock: they hear a whole clip before they play the first frame."""
