"""The hands: documented fixes, each checked, noted and verified; the only part that changes the machine."""
