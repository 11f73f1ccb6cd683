"""The `vm` box: a container on a kernel of its own (docs/decisions/0050-vm-box.md)."""
