"""Looking at a living lab: a web page with a memory, and a table in the terminal."""
