"""The labs that come with netlab: each a lesson, a file to read as much as to run."""
