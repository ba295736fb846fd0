"""Who the peers of a network resource are, and by which path they are reached."""
