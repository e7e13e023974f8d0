"""What the scripts in `image/` share. Python's standard library alone: they run
on a fresh Debian 12 and on any machine of a developer."""
