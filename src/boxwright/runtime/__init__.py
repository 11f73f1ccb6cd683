"""The five operations, the state store, hooks, consoles."""
