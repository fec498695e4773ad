"""Servers of other libraries, as short as people write them. Each runs as a script in an environment of its own."""
