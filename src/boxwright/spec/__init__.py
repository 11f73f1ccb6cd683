"""What the OCI Runtime Specification says: types, decoding, validation."""
