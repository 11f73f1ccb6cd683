"""The `vm` box: a `linux` box whose program holds a machine (docs/decisions/0050-vm-box.md)."""
