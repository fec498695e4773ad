"""How fast this machine is, and the settings that suit it."""
