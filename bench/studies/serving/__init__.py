"""Servers under load: an open-loop generator, scenarios, the systems that are compared, and a soak test."""
