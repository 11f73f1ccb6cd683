"""The lifecycle of a container in a virtual machine: the jail is a `linux` box, the rest is asked of the guest."""
