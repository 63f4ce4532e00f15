"""The built-in procedural world of geometric objects, with a programmatic teacher."""
