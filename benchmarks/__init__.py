"""How fast it is, beside the floor and the peers, measured in one run."""
