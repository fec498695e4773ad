"""The JSON of other servers and services, one module each."""
