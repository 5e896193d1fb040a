"""The eyes: a look at the machine, and nothing but a look."""
