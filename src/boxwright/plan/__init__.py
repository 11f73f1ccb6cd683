"""Pure: from a configuration and what is known of the host to an ordered list of operations."""
