"""Results that people pass on: packed, checked, merged."""
