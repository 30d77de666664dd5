"""Stand-ins that speak the real protocols and pass the same suites as the real parts."""
