"""What furnished rooms are worth: counts, shortcuts that need no understanding, frozen features."""
