"""Measure how fast this machine is, and find the settings that suit it."""
