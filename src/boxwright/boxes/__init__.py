"""The kinds of box, and what each honours."""
