"""Run something in a box and get its result."""
