"""What runs as a lab's keeper: namespaces, links and processes, and the messages that ask for them.

Only what is cheap to import, because the keeper's start is part of every lab's.
"""
